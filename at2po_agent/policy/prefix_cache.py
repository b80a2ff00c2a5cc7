"""Keys and values of finished sequences, found again by their longest common prefix with a new prompt."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Sequence

import torch

Ids = tuple[int, ...]


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading ids two sequences share."""
    shorter = min(len(a), len(b))
    if a[:shorter] == b[:shorter]:
        return shorter
    return next(i for i in range(shorter) if a[i] != b[i])


class PrefixCache:
    """A bounded store of key/value states, least recently used out first.

    In lexicographic order the sequence that shares most with a prompt stands next to where the prompt would stand.

    Args:
        max_bytes: states beyond this size are dropped.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._sorted: list[Ids] = []
        self._states: OrderedDict[Ids, torch.Tensor] = OrderedDict()

    def match(self, ids: Ids) -> tuple[int, torch.Tensor | None]:
        """The longest prefix of ``ids`` that is stored: its length, and states of at least that length."""
        place = bisect_left(self._sorted, ids)
        near = self._sorted[max(0, place - 1) : place + 1]
        best = max(near, key=lambda stored: common_prefix(stored, ids), default=None)
        if best is None or not (length := common_prefix(best, ids)):
            return 0, None
        self._states.move_to_end(best)
        return length, self._states[best]

    def insert(self, ids: Ids, states: torch.Tensor) -> None:
        """Store the states of ``ids``; a stored prefix of them is no longer needed."""
        size = states.nbytes
        if size > self.max_bytes or ids in self._states:
            return
        place = bisect_left(self._sorted, ids)
        if place and (shorter := self._sorted[place - 1]) == ids[: len(shorter)]:
            self._remove(shorter)
        insort(self._sorted, ids)
        self._states[ids] = states
        self.bytes += size
        while self.bytes > self.max_bytes:
            self._remove(next(iter(self._states)))

    def clear(self) -> None:
        """Forget everything: the weights changed."""
        self._sorted.clear()
        self._states.clear()
        self.bytes = 0

    def _remove(self, ids: Ids) -> None:
        self.bytes -= self._states.pop(ids).nbytes
        del self._sorted[bisect_left(self._sorted, ids)]
