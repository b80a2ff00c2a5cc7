"""Decode steps captured as CUDA graphs: a step of a small model is bound by the launches of its kernels.

A graph holds the forward pass and the sampling of one shape, with its inputs at fixed places. Rows, columns and samples
are padded to buckets, so that few graphs are captured. Padding rows write into slots after the running ones, which
the next prompt overwrites.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from at2po_agent.policy.base import CausalLM, Sampling
from at2po_agent.policy.local.forward import Forward, LlamaForward, Pass
from at2po_agent.policy.local.kv import KVSlots
from at2po_agent.policy.local.sampler import Drawn, draw

_COLUMNS = 256  # columns that a step reads are padded to a multiple of this

Run = Callable[[], Drawn]
Capture = Callable[[Run], Run]  # what to call once for each shape, and what it gives in every step


class Tokens(NamedTuple):
    """The inputs of a decode step, one row for each slot from the first."""

    ids: Sequence[int]  # [R] the token to read
    positions: Sequence[int]  # [R] tokens before it
    noise: NDArray[np.float64]  # [R, S] in [0, 1)


class _Inputs(NamedTuple):
    """Fixed places of a shape's inputs."""

    ids: torch.Tensor  # [R, 1]
    positions: torch.Tensor  # [R, 1]
    noise: torch.Tensor  # [R, S] float64

    @classmethod
    def of(cls, rows: int, samples: int, device: torch.device) -> _Inputs:
        one = torch.zeros(rows, 1, dtype=torch.long, device=device)
        return cls(one, one.clone(), torch.zeros(rows, samples, dtype=torch.float64, device=device))

    def fill(self, tokens: Tokens) -> None:
        """Write ``tokens``, padded with rows of one token."""
        rows, samples = tokens.noise.shape
        noise = np.zeros(self.noise.shape)
        noise[:rows, :samples] = tokens.noise
        padding = [0] * (len(self.ids) - rows)
        self.ids.copy_(torch.tensor([*tokens.ids, *padding])[:, None], non_blocking=True)
        self.positions.copy_(torch.tensor([*tokens.positions, *padding])[:, None], non_blocking=True)
        self.noise.copy_(torch.from_numpy(noise), non_blocking=True)


class _Captured(NamedTuple):
    inputs: _Inputs
    replay: Run
    held: tuple[object, ...]  # tensors that the graph reads at their addresses


class CudaGraphs:
    """Captures what it is called with as CUDA graphs, which share memory: one is replayed at a time, and read first."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Run) -> Run:
        """Capture ``run``; what it gives is overwritten by the next replay of any graph."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        # Libraries get their memory and choose their kernels in calls before the captured one.
        with torch.cuda.stream(stream):
            run()
            run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            drawn = run()

        def replay() -> Drawn:
            graph.replay()
            return drawn

        return replay


class CapturedSteps:
    """Decode steps of one model, captured once for each shape.

    Args:
        model: whose weights stay where they are; an update in place may change them.
        forward: through it.
        capture: of a step.
    """

    def __init__(self, model: CausalLM, forward: LlamaForward, capture: Capture) -> None:
        self._addresses = _addresses(model)
        self._forward, self._capture = forward, capture
        self._captured: dict[tuple[object, ...], _Captured] = {}
        self._states: torch.Tensor | None = None

    def are_of(self, model: CausalLM, forward: Forward) -> bool:
        """Whether what was captured is still right for ``model``, through which ``forward`` is the way now."""
        return isinstance(forward, LlamaForward) and self._addresses == _addresses(model)

    @staticmethod
    def room(slots: int, columns: int) -> tuple[int, int]:
        """Slots and columns in buckets: every growth of the states makes all graphs useless."""
        return _power(slots), -(-columns // _COLUMNS) * _COLUMNS

    def __call__(self, kv: KVSlots, tokens: Tokens, sampling: Sampling) -> Drawn:
        """Read a token on every row and sample the next; what is returned holds until the next call."""
        rows, samples = tokens.noise.shape
        slots, seen = self.room(rows, max(tokens.positions) + 1)
        kv.reserve(slots, seen)
        if kv.states is not self._states:
            self._captured.clear()
            self._states = kv.states
        shape = (slots, seen, _power(samples), sampling.temperature, sampling.top_logprobs)
        captured = self._captured.get(shape)
        if captured is None:
            inputs = _Inputs.of(slots, _power(samples), kv.states.device)
            inputs.fill(tokens)
            replay = self._capture(lambda: self._step(kv, inputs, seen, sampling))
            captured = self._captured[shape] = _Captured(inputs, replay, (kv.states, self._forward.angles))
        else:
            captured.inputs.fill(tokens)
        drawn = captured.replay()
        return Drawn(
            drawn.ids[:rows, :samples],
            drawn.logprobs[:rows, :samples],
            drawn.top_ids[:rows],
            drawn.top_logprobs[:rows],
        )

    def _step(self, kv: KVSlots, inputs: _Inputs, seen: int, sampling: Sampling) -> Drawn:
        last = torch.arange(len(inputs.ids), device=inputs.ids.device)
        rows = Pass(slice(0, len(inputs.ids)), inputs.ids, inputs.positions, None, last, seen)
        return draw(self._forward(kv, rows), inputs.noise, sampling.temperature, sampling.top_logprobs)


def captured_steps(model: CausalLM, forward: Forward, capture: Capture | None) -> CapturedSteps | None:
    """Decode steps of ``model`` to be captured, or None where they cannot or shall not be."""
    if capture is None or not isinstance(forward, LlamaForward):
        return None
    return CapturedSteps(model, forward, capture)


def _addresses(model: CausalLM) -> list[int]:
    return [parameter.data_ptr() for parameter in model.parameters()]


def _power(count: int) -> int:
    """The power of two from ``count`` up."""
    return 1 << (count - 1).bit_length()
