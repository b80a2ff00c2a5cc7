"""``LocalPolicy``: the engine in this process, on the trained module itself."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch

from at2po_agent.policy.architecture import positions, refuse_unusable
from at2po_agent.policy.base import CausalLM, Completion, PolicyError, Request, Sampling, Stats, check_requests
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.loading import load_policy, resolve_policy
from at2po_agent.policy.local.batch import PREFILL_TOKENS, Batch, Row
from at2po_agent.policy.local.captured import Capture, CudaGraphs
from at2po_agent.tasks import run

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Result = TypeVar("Result")


class _Call:
    """One ``generate``: its waiting rows, and the completions that are there already."""

    def __init__(self, requests: Sequence[Request], sampling: Sampling) -> None:
        self.sampling = sampling
        self.future: Future[list[Completion]] = Future()
        self._completions: list[Completion | None] = [None] * len(requests)
        self._missing = len(requests)
        self.waiting = deque(
            Row(request, sampling, self._finisher(i), self.future.cancelled) for i, request in enumerate(requests)
        )

    def _finisher(self, index: int) -> Callable[[Completion], None]:
        def finished(completion: Completion) -> None:
            self._completions[index] = completion
            self._missing -= 1
            if not self._missing and self.future.set_running_or_notify_cancel():
                self.future.set_result([c for c in self._completions if c is not None])

        return finished

    @property
    def done(self) -> bool:
        return self.future.done()

    def fail(self, error: BaseException) -> None:
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class LocalPolicy:
    """An ``Engine`` on torch and transformers, on the live module that a trainer may update between calls.

    One worker thread runs one batch. Calls that arrive while it runs join it between two tokens, if their sampling
    parameters are equal and there is room. In deterministic mode every call runs alone, in the order of arrival, so
    that equal calls after equal calls give equal bits.

    After an update of the weights call ``publish``; a run that must be repeatable calls ``clear_cache`` whenever it
    starts something that can be started from a checkpoint.

    A process that is forked after the first call cannot use it: neither the worker nor torch's threads are there.

    Args:
        model: a causal LM with full attention, loaded with ``attn_implementation="sdpa"``.
        codec: its tokenizer.
        max_batch: sequences that run at the same time; each takes the longest one's states (46 KB a token for
            SmolLM2-135M in float32).
        deterministic: run every call alone.
        cache_bytes: bound of the states that are kept for later turns and siblings.
        prefill_tokens: of one forward pass that reads prompts, padding included; a longer prompt is read alone.
        cuda_graphs: capture decode steps on a GPU.
        capture: how they are captured, on whichever device; default: as CUDA graphs, on a GPU.

    Raises:
        PolicyError: the model's attention is not supported.
    """

    def __init__(
        self,
        model: CausalLM,
        codec: Codec,
        *,
        max_batch: int = 256,
        deterministic: bool = True,
        cache_bytes: int = 512 * 2**20,
        prefill_tokens: int = PREFILL_TOKENS,
        cuda_graphs: bool = True,
        capture: Capture | None = None,
    ) -> None:
        _check_attention(model.config)
        self.model, self.codec = model, codec
        self.max_batch, self.deterministic = max_batch, deterministic
        self.version = 0
        self._vocabulary = model.get_input_embeddings().num_embeddings
        self._positions = positions(model)
        if capture is None and cuda_graphs and model.device.type == "cuda":
            capture = CudaGraphs()
        self._batch = Batch(model, codec, cache_bytes, prefill_tokens, capture)
        self._calls: deque[_Call] = deque()  # in order of arrival; a call leaves when it is done
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None
        self._process = os.getpid()  # where the worker runs
        self._closed = False

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, dtype: torch.dtype = torch.float32, device: str = "cpu", **options: Any
    ) -> Self:
        """Load a Hugging Face model directory, or a policy that this package carries.

        Args:
            path: of a directory with config, weights and tokenizer; or ``builtin:NAME``.
            dtype: float32 is the safe choice on a CPU.
            device: where to run.
            options: see the class.

        Raises:
            PolicyError: there is no whole model in ``path``, or its attention is not supported.
        """
        model, codec = load_policy(resolve_policy(path), dtype)
        return cls(model.to(device), codec, **options)

    @property
    def stats(self) -> Stats:
        """Token counts since the policy was made."""
        return self._batch.stats

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Continue every prompt by one turn, results in the order of the requests.

        Raises:
            PolicyError: a request cannot be run, the policy is closed or of another process, or the model's logits are
                not finite.
        """
        self._check_process()
        check_requests(requests, sampling, vocabulary=self._vocabulary, positions=self._positions)
        if not requests:
            return []
        call = _Call(requests, sampling)
        with self._changed:
            if self._closed:
                raise PolicyError("the policy is closed")
            if self._worker is None:
                self._process = os.getpid()
                self._worker = threading.Thread(target=self._work, name="at2po-engine", daemon=True)
                self._worker.start()
            self._calls.append(call)
            self._changed.notify()
        return await asyncio.wrap_future(call.future)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a rollout on a new event loop: the batch has a thread of its own, whichever loop asks."""
        return run(work)

    def release(self) -> None:
        """Nothing to give up: the weights are the trained module's own."""

    def publish(self, model: CausalLM, version: int) -> None:
        """The trained module was changed in place: sample as ``version`` from now on.

        Raises:
            PolicyError: ``model`` is another module, or sequences are running and would mix two versions.
        """
        if model is not self.model:
            raise PolicyError("the local engine samples from the module it was made with; make a new one for another")
        self.clear_cache()
        self.version = version

    def clear_cache(self) -> None:
        """Forget every key and value.

        Raises:
            PolicyError: sequences are running, and would mix two versions; or the policy is of another process.
        """
        self._check_process()
        with self._changed:
            if any(not call.done for call in self._calls):
                raise PolicyError("the weights changed while turns are being sampled: wait for `generate` first")
            self._batch.clear_cache()

    def close(self) -> None:
        """Stop the worker; calls that are not finished fail. Nothing in a fork, whose parent goes on with it."""
        if self._is_forked():
            return
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._worker is not None:
            self._worker.join()

    def _is_forked(self) -> bool:
        return self._worker is not None and self._process != os.getpid()

    def _check_process(self) -> None:
        """Before the lock is taken, which the worker may have held when the process was forked."""
        if self._is_forked():
            raise PolicyError(
                f"this process was forked from process {self._process}, whose threads run the policy: load a policy in "
                "the process that uses it, and start that with multiprocessing's 'spawn'"
            )

    def _work(self) -> None:
        # A thread begins on the first GPU, and graphs are captured on the current one.
        if self.model.device.type == "cuda":
            torch.cuda.set_device(self.model.device)
        while True:
            with self._changed:
                while not self._closed and not self._calls:
                    self._changed.wait()
                if self._closed:
                    self._fail(PolicyError("the policy was closed"))
                    return
                rows = self._admissible()
            try:
                self._advance(rows)
            except Exception as error:
                with self._changed:
                    self._fail(error)
            with self._changed:
                while self._calls and self._calls[0].done:
                    self._calls.popleft()

    def _advance(self, rows: Sequence[Row]) -> None:
        self._batch.version = self.version
        if self.model.training:
            self.model.eval()
        self._batch.drop_cancelled()
        if rows:
            self._batch.admit(rows)
        elif self._batch.rows:
            self._batch.step()

    def _admissible(self) -> list[Row]:
        """Waiting rows that may join the batch now."""
        room = self.max_batch - len(self._batch.rows)
        rows: list[Row] = []
        for call in [call for call in self._calls if not call.done]:
            if call.sampling != self._calls[0].sampling or (self.deterministic and call is not self._calls[0]):
                break
            while call.waiting and len(rows) < room:
                rows.append(call.waiting.popleft())
        return rows

    def _fail(self, error: Exception) -> None:
        for call in self._calls:
            call.fail(error)
        self._calls.clear()
        self._batch.reset()


def _check_attention(config: PreTrainedConfig) -> None:
    if config._attn_implementation != "sdpa":
        raise PolicyError(
            f"the local engine needs attn_implementation='sdpa', not {config._attn_implementation!r}: "
            "eager attention silently misreads boolean masks"
        )
    refuse_unusable(config)
