"""The processes of a run: those that ``torchrun`` or the command itself started, or just this one.

All run the same program on the same configuration and meet at the same places. Whichever ends first by an error says
why; the others end without a word.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

from at2po_agent.errors import AgentError, ConfigError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]  # torch has no __all__ there

T = TypeVar("T")

_PATIENCE = timedelta(days=1)  # with a process that is slow; torchrun and the connections tell of one that is gone
_LOST = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")  # what torch says of it
_ENDING_S = 2.0  # within which a process whose connections are closed is gone from its host too


class ProcessLost(AgentError):
    """Another process is gone without a word, so this one cannot go on."""


class EndedElsewhere(Exception):
    """Another process ended the run and has said why."""


@dataclass(frozen=True)
class Processes:
    """All processes of a run, seen from one of them. The default is a run of one process."""

    rank: int = 0
    count: int = 1
    group: Any = None  # torch's process group that values go through; None: the one that all joined

    def beside(self) -> Processes:
        """The same processes with exchanges of their own, for another thread of each; all call this at the same place.

        Exchanges meet in the order of the calls, and two threads have none between them.
        """
        if self.count == 1:
            return self
        import torch.distributed as dist

        return replace(self, group=dist.new_group(timeout=_PATIENCE, backend="gloo"))

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes the run directory and talks to the user."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of ``n`` things in order: parts follow the ranks and differ by one at most."""
        return slice(self.rank * n // self.count, (self.rank + 1) * n // self.count)

    def gather(self, value: T) -> list[T]:
        """The value of every process, by rank; it is pickled."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self.group)
        return values

    def lead(self, work: Callable[[], T]) -> T:
        """Do ``work`` in the first process alone, and return its result in all."""
        found: Any = work() if self.leads else None
        first: T = self.gather(found)[0]
        return first

    async def together(self, work: Awaitable[T]) -> list[T]:
        """Await ``work`` in every process and return all results, by rank. An error ends all, once all are done.

        Raises:
            EndedElsewhere: it failed in another process, and not in one before that.
        """
        try:
            found = await work
        except Exception:
            failed = self.gather((True, None))
            if any(bad for bad, _ in failed[: self.rank]):
                raise EndedElsewhere from None
            raise
        both: list[tuple[bool, Any]] = self.gather((False, found))
        if any(bad for bad, _ in both):
            raise EndedElsewhere
        return [result for _, result in both]


ONE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, and leave them at the end; without it there is just this one.

    Raises:
        ConfigError, ProcessLost, EndedElsewhere: see ``joined_at``.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ONE
        return
    from torch.distributed.rendezvous import rendezvous

    store, rank, count = next(rendezvous("env://", timeout=_PATIENCE))
    with joined_at(store, rank, count, int(os.environ["LOCAL_RANK"])) as processes:
        yield processes


def under_torchrun() -> bool:
    """Whether ``torchrun`` started this process, alone or with others."""
    return "WORLD_SIZE" in os.environ


@contextmanager
def joined_at(store: Store, rank: int, count: int, local_rank: int | None = None) -> Iterator[Processes]:
    """Join the processes that meet at a store, and leave them at the end.

    Tensors on GPUs travel by NCCL, everything else by gloo.

    Args:
        store: the same for all.
        rank: of this process.
        count: of all processes.
        local_rank: of this process among those on its host; default: ``rank``, as all are on one.

    Raises:
        ConfigError: there are more processes than GPUs on this host.
        ProcessLost: another process is gone, and this is the first one to notice.
        EndedElsewhere: another process has said why the run ends.
    """
    import torch.distributed as dist

    backend = _backend(rank if local_rank is None else local_rank)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE)
    others: list[_Member] = []
    try:
        processes = Processes(rank, count)
        members = processes.gather(_Member(rank, platform.node(), os.environ.get("GROUP_RANK", ""), os.getpid()))
        others = members[:rank] + members[rank + 1 :]
        yield processes
    except EndedElsewhere:
        raise
    except Exception as error:
        if not _is_first(store):
            raise EndedElsewhere from error
        if isinstance(error, RuntimeError) and any(word in str(error) for word in _LOST):
            said = str(error).splitlines()[0]
            raise ProcessLost(
                f"another process of the run is gone{_names(others)} ({said}); continue from the last checkpoint with "
                "--resume"
            ) from error
        raise
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True)
class _Member:
    rank: int
    host: str
    group: str  # of those that one torchrun started, on one host
    pid: int

    def is_gone(self) -> bool:
        """Whether it has ended, and whoever started it has noticed."""
        try:
            os.kill(self.pid, 0)
        except OSError as error:
            return isinstance(error, ProcessLookupError)
        return False


def _names(others: Sequence[_Member]) -> str:
    """Which of the ``others`` are gone, for a message; empty where this host cannot tell."""
    gone = list(others)
    if len(others) > 1:
        own = platform.node(), os.environ.get("GROUP_RANK", "")
        near, until = [one for one in others if (one.host, one.group) == own], monotonic() + _ENDING_S
        while not (gone := [one for one in near if one.is_gone()]) and monotonic() < until:
            sleep(0.05)
    return "".join(f", rank {one.rank} (PID {one.pid} on {one.host})" for one in gone)


def _backend(local: int) -> str:
    """Of this host's devices; each process takes a GPU of its own, by its ``local`` rank."""
    import torch

    if not torch.cuda.is_available():
        return "gloo"
    gpus = torch.cuda.device_count()
    if local >= gpus:
        raise ConfigError(
            f"there are more processes than GPUs, of which this host has {gpus}: start torchrun with --nproc-per-node "
            f"{gpus}, or hide the GPUs with CUDA_VISIBLE_DEVICES= to train on CPUs"
        )
    torch.cuda.set_device(local)
    return "cpu:gloo,cuda:nccl"


def _is_first(store: Store) -> bool:
    """Whether no other process has ended by an error before; they count in the store."""
    try:
        return int(store.add(f"at2po/ended/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", 1)) == 1
    except RuntimeError:  # the store is gone with the process that held it, which was the first
        return False
