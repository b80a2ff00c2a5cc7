"""The processes of a run as threads of this one: a double of the seam at which they exchange values."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Barrier
from typing import Any, TypeVar

from at2po_agent.update.processes import Processes

T = TypeVar("T")


@dataclass(frozen=True)
class Threads(Processes):
    """One of ``count`` threads."""

    meeting: Barrier = field(default_factory=lambda: Barrier(1))
    values: dict[int, Any] = field(default_factory=dict)  # of all threads, by rank

    def gather(self, value: T) -> list[T]:
        self.values[self.rank] = value
        self.meeting.wait(20)
        values = [self.values[rank] for rank in range(self.count)]
        self.meeting.wait(20)  # nobody goes on to the next value before all have read this one
        return values

    def beside(self) -> Threads:
        meeting, values = self.gather((Barrier(self.count), dict[int, Any]()))[0]
        return replace(self, meeting=meeting, values=values)


def in_threads(work: Callable[[Processes], T], count: int = 2) -> list[T | Exception]:
    """What ``work`` returned or raised in each of ``count`` processes, by rank."""
    meeting, values = Barrier(count), dict[int, Any]()

    def one(rank: int) -> T | Exception:
        try:
            return work(Threads(rank, count, meeting=meeting, values=values))
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
