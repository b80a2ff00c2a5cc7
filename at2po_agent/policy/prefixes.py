"""Token sequences, found again by the longest prefix that they have in common with another one."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

Ids = tuple[int, ...]


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """The number of leading ids that two sequences share."""
    shorter = min(len(a), len(b))
    if a[:shorter] == b[:shorter]:
        return shorter
    # Halved, as slices are compared much faster than element by element.
    equal, unequal = 0, shorter
    while unequal - equal > 1:
        middle = (equal + unequal) // 2
        if a[equal:middle] == b[equal:middle]:
            equal = middle
        else:
            unequal = middle
    return equal


class Prefixes:
    """A set of sequences; one that continues another takes its place.

    In lexicographic order the sequence that shares most with a given one stands next to where that one would stand.
    """

    def __init__(self) -> None:
        self._sorted: list[Ids] = []

    def __contains__(self, ids: Ids) -> bool:
        place = bisect_left(self._sorted, ids)
        return place < len(self._sorted) and self._sorted[place] == ids

    def match(self, ids: Ids) -> tuple[int, Ids]:
        """The length of the longest prefix of ``ids`` that a stored sequence begins with, and that sequence."""
        place = bisect_left(self._sorted, ids)
        near = self._sorted[max(0, place - 1) : place + 1]
        return max(((common_prefix(stored, ids), stored) for stored in near), default=(0, ()))

    def insert(self, ids: Ids) -> Ids | None:
        """Store ``ids``; return the sequence that they continue, which is no longer stored, if there was one."""
        place = bisect_left(self._sorted, ids)
        shorter = self._sorted[place - 1] if place else None
        if shorter is not None and shorter == ids[: len(shorter)]:
            self._sorted[place - 1] = ids
            return shorter
        insort(self._sorted, ids)
        return None

    def extend(self, ids: Ids) -> int:
        """Store ``ids`` unless a stored sequence begins with them; ``match``'s length from before."""
        place = bisect_left(self._sorted, ids)
        after = common_prefix(self._sorted[place], ids) if place < len(self._sorted) else 0
        if after == len(ids):
            return after
        before = self._sorted[place - 1] if place else ()
        shared = common_prefix(before, ids)
        if before and shared == len(before):
            self._sorted[place - 1] = ids
        else:
            self._sorted.insert(place, ids)
        return max(after, shared)

    def remove(self, ids: Ids) -> None:
        """Take out a sequence that is stored."""
        del self._sorted[bisect_left(self._sorted, ids)]

    def clear(self) -> None:
        """Forget all of them."""
        self._sorted.clear()
