"""Token sequences, found again by the longest prefix that they have in common with another one."""

from __future__ import annotations

from bisect import bisect_left
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
        length = 0
        found: Ids = ()
        for stored in self._sorted[max(0, place - 1) : place + 1]:
            shared = common_prefix(stored, ids)
            if shared >= length:
                length, found = shared, stored
        return length, found

    def insert(self, ids: Ids) -> Ids | None:
        """Store ``ids``; return the sequence that they continue, which is no longer stored, if there was one."""
        return self._insert(bisect_left(self._sorted, ids), ids)

    def add(self, ids: Ids) -> None:
        """Store ``ids`` unless a stored sequence begins with them."""
        place = bisect_left(self._sorted, ids)
        if place == len(self._sorted) or self._sorted[place][: len(ids)] != ids:
            self._insert(place, ids)

    def _insert(self, place: int, ids: Ids) -> Ids | None:
        shorter = self._sorted[place - 1] if place else None
        if shorter is not None and shorter == ids[: len(shorter)]:
            self._sorted[place - 1] = ids
            return shorter
        self._sorted.insert(place, ids)
        return None

    def remove(self, ids: Ids) -> None:
        """Take out a sequence that is stored."""
        del self._sorted[bisect_left(self._sorted, ids)]

    def clear(self) -> None:
        """Forget all of them."""
        self._sorted.clear()
