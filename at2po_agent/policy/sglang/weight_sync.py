"""Three ways for a trained model's weights to reach SGLang servers.

``disk``         a folder that trainer and servers can read; any topology and any number of servers
``tensors``      shared memory of one host; needs no disk
``distributed``  a process group of trainer and server, NCCL between GPUs and gloo between CPUs

``take`` holds what is to be sent once, ``send`` gives it to one server, as often as a server needs it. Names are those
of the Hugging Face checkpoint, LoRA adapters merged; the server shards, fuses and casts them itself. Written against
SGLang 0.5.23.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing
from torch.distributed import distributed_c10d

from at2po_agent.atomic_files import new_directory
from at2po_agent.policy.base import CausalLM, PolicyError, PolicyUnavailable
from at2po_agent.policy.lora import merged_parameters, save_merged
from at2po_agent.policy.sglang.admin import NoSuchCall, SglangAdmin

_dist: Any = dist  # its TCPStore is not typed
_c10d: Any = distributed_c10d  # torch has no public way to make a group beside a trainer's own
_multiprocessing: Any = multiprocessing  # not typed
BUCKET_BYTES = 1 << 30  # of one call: what the server needs beside its own weights


class WeightSync(Protocol):
    """One way of sending weights."""

    def take(self, model: CausalLM, label: str) -> None:
        """Hold the weights of ``model`` as they are now, to be sent under ``label``."""
        ...

    def send(self, server: SglangAdmin) -> None:
        """Give one server the weights that were taken; nothing is generated meanwhile, and its cache is forgotten.

        Raises:
            PolicyUnavailable: the server cannot be reached.
            PolicyError: the server refused, in its words.
        """
        ...

    def close(self) -> None:
        """Release what is held."""
        ...


class DiskSync:
    """``/update_weights_from_disk`` from a folder below ``folder``; every server must see the same path."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._held, self._label = folder, folder, ""

    def take(self, model: CausalLM, label: str) -> None:
        """Write a Hugging Face folder in place of the last one."""
        earlier, self._held, self._label = self._held, self._folder.absolute() / label, label
        with new_directory(self._held) as folder:
            save_merged(model, folder)
        if earlier not in (self._folder, self._held):
            shutil.rmtree(earlier)

    def send(self, server: SglangAdmin) -> None:
        """The server reads the folder."""
        with server.paused():
            server.call("/update_weights_from_disk", {"model_path": str(self._held), "weight_version": self._label})

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


class TensorSync:
    """``/update_weights_from_tensor`` through shared memory: trainer and servers run on one host.

    A model on a GPU is copied to the host's memory first; CUDA's own handles are not used.

    Args:
        bucket_bytes: weights that go in one call; a single tensor may be larger.
    """

    def __init__(self, bucket_bytes: int = BUCKET_BYTES) -> None:
        self._bucket_bytes = bucket_bytes
        # With file descriptors, torch's default, the server cannot open the memory and dies.
        _multiprocessing.set_sharing_strategy("file_system")
        _start_memory_manager()
        self._buckets: list[list[tuple[str, Tensor]]] = []
        self._label = ""

    def take(self, model: CausalLM, label: str) -> None:
        """Copy the weights to shared memory."""
        self._label = label
        buckets = _buckets(model, self._bucket_bytes)
        self._buckets = [[(name, _shared(tensor)) for name, tensor in bucket] for bucket in buckets]

    def send(self, server: SglangAdmin) -> None:
        """Send where the memory is, to each of the server's tensor-parallel ranks."""
        ranks = server.ranks()
        with server.paused(), _update(server):
            for bucket, extra in _with_label(self._buckets, self._label):
                stream = io.BytesIO()
                ForkingPickler(stream).dump(bucket)
                payload = base64.b64encode(stream.getvalue()).decode()
                server.call("/update_weights_from_tensor", {"serialized_named_tensors": [payload] * ranks, **extra})

    def close(self) -> None:
        """Free the memory."""
        self._buckets = []


class DistributedSync:
    """``/update_weights_from_distributed`` over one process group for each server, which breaks only with its server.

    Args:
        address: this host's name or number as the servers reach it.
        timeout: seconds until a server that does not take part is given up.
    """

    _model: CausalLM  # set by ``take``

    def __init__(self, address: str = "127.0.0.1", timeout: float = 120.0) -> None:
        self._address, self._timeout = address, timedelta(seconds=timeout)
        self._groups: dict[str, tuple[str, dist.ProcessGroup]] = {}
        self._label = ""
        self._calls = ThreadPoolExecutor(1, "at2po-weights")

    def take(self, model: CausalLM, label: str) -> None:
        """Remember the module: its weights are sent as they are, so they must not change before the next ``take``."""
        self._model, self._label = model, label

    def send(self, server: SglangAdmin) -> None:
        """Join a group with the server if there is none yet, and broadcast."""
        try:
            with server.paused(), _update(server):
                name, group = self._groups.get(server.url) or self._join(server)
                for bucket, extra in _with_label(_buckets(self._model, BUCKET_BYTES), self._label):
                    body = {
                        "names": [name for name, _ in bucket],
                        "dtypes": [str(tensor.dtype).removeprefix("torch.") for _, tensor in bucket],
                        "shapes": [list(tensor.shape) for _, tensor in bucket],
                        "group_name": name,
                        **extra,
                    }
                    answer = self._calls.submit(server.call, "/update_weights_from_distributed", body)
                    self._broadcast(bucket, group, server, answer)
        except PolicyError:
            self._groups.pop(server.url, None)  # whatever state it is in: the next try joins a new one
            raise

    def close(self) -> None:
        """Leave the groups; the servers are not asked, because they may be gone."""
        self._groups.clear()
        self._calls.shutdown(wait=False, cancel_futures=True)

    def _join(self, server: SglangAdmin) -> tuple[str, dist.ProcessGroup]:
        ranks = server.ranks()
        name = f"at2po-{uuid.uuid4().hex[:8]}"  # a name of its own each time: a server remembers those it has joined
        backend = "nccl" if next(self._model.parameters()).is_cuda else "gloo"
        store = _dist.TCPStore("0.0.0.0", 0, ranks + 1, True, timeout=self._timeout, wait_for_workers=False)
        body = {"master_address": self._address, "master_port": store.port, "rank_offset": 1, "world_size": ranks + 1}
        answer = self._calls.submit(
            server.call, "/init_weights_update_group", body | {"group_name": name, "backend": backend}
        )
        try:
            group, _ = _c10d._new_process_group_helper(  # as the server does it, for both must name their keys alike
                ranks + 1,
                0,
                [],
                _c10d.Backend(backend),
                _c10d.PrefixStore(name, store),
                group_name=name,
                timeout=self._timeout,
            )
        except RuntimeError as error:
            answer.result()  # its own words, where it has any
            raise PolicyUnavailable(f"{server.url} did not join a {backend} group: {error}") from error
        answer.result()
        _c10d._world.pg_group_ranks[group] = {rank: rank for rank in range(ranks + 1)}
        self._groups[server.url] = name, group
        return name, group

    @staticmethod
    def _broadcast(
        bucket: Sequence[tuple[str, Tensor]], group: dist.ProcessGroup, server: SglangAdmin, answer: Future[Any]
    ) -> None:
        try:
            waiting = [dist.broadcast(tensor, src=0, group=group, async_op=True) for _, tensor in bucket]
            for work in filter(None, waiting):
                work.wait()
        except RuntimeError as error:
            answer.result()
            raise PolicyUnavailable(f"{server.url} left the process group: {error}") from error
        answer.result()


def _start_memory_manager() -> None:
    """Start torch's process that cleans shared memory up, with no hold on where this process writes its errors.

    It lives as long as a server that opened the memory, and whoever reads a pipe of ours to its end would wait for it.
    """
    ours = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            _shared(torch.empty(1))
        finally:
            os.dup2(ours, 2)
            os.close(ours)


def _shared(tensor: Tensor) -> Tensor:
    held: Any = tensor.cpu().clone()  # a copy: the model's own memory stays where it is
    shared: Tensor = held.share_memory_()
    return shared


def _buckets(model: CausalLM, size: int) -> Iterator[list[tuple[str, Tensor]]]:
    """Yield the parameters by name, tied ones once, in parts of at most ``size`` bytes or a single tensor."""
    bucket: list[tuple[str, Tensor]] = []
    for name, parameter in merged_parameters(model):
        tensor = parameter.contiguous()
        if bucket and sum(held.nbytes for _, held in bucket) + tensor.nbytes > size:
            yield bucket
            bucket = []
        bucket.append((name, tensor))
    yield bucket


def _with_label(
    buckets: Iterable[list[tuple[str, Tensor]]], label: str
) -> Iterator[tuple[list[tuple[str, Tensor]], dict[str, Any]]]:
    """Each part with what its call says besides: only the last one changes the version and flushes."""
    parts = iter(buckets)
    bucket = next(parts)
    for following in parts:  # one ahead, not all: merged weights are copies
        yield bucket, {"flush_cache": False}
        bucket = following
    yield bucket, {"flush_cache": True, "weight_version": label}


class _update:
    """Between ``/begin_weight_update`` and ``/end_weight_update``, where tensors may be sent."""

    def __init__(self, server: SglangAdmin) -> None:
        self._server = server

    def __enter__(self) -> None:
        try:
            self._server.call("/begin_weight_update", {})
        except PolicyUnavailable:
            raise
        except NoSuchCall as error:
            raise PolicyError(
                f"the server at {self._server.url} has no /begin_weight_update, as SGLang before 0.5.18: it takes "
                "weights with engine.sync=disk only"
            ) from error
        except PolicyError:  # one that an earlier trainer left open
            self._server.call("/end_weight_update", {})
            self._server.call("/begin_weight_update", {})

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if not isinstance(error, PolicyUnavailable):
            self._server.call("/end_weight_update", {})
