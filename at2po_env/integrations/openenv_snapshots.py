"""The snapshots that a server keeps for its clients, who know them by ids from which nothing can be read."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from at2po_env.errors import SnapshotError
from at2po_env.snapshots import Snapshot


@dataclass(frozen=True)
class Kept:
    """A snapshot of the environment of a split, until a time (monotonic seconds)."""

    split: str
    snapshot: Snapshot
    until: float


class Snapshots:
    """The snapshots that clients may go back to, by ids from which nothing can be read or guessed.

    An id is a keyed hash of the snapshot's digest. The digest itself covers the reference answers: who had it could
    try answers against it.

    Args:
        most: how many are kept; the one that was used longest ago goes first.
        seconds: how long one is kept after its last use.
        clock: seconds, monotonic.
    """

    def __init__(
        self, most: int = 100_000, seconds: float = 3600.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._key = secrets.token_bytes(32)
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, split: str, snapshot: Snapshot) -> str:
        """Keep a snapshot; returns its id, the same one for an equal snapshot."""
        name = hmac.new(self._key, f"{split}\n{snapshot.digest}".encode(), hashlib.sha256).hexdigest()
        now = self._clock()
        self._kept[name] = Kept(split, snapshot, now + self._seconds)
        self._kept.move_to_end(name)
        while len(self._kept) > self._most or next(iter(self._kept.values())).until < now:
            self._kept.popitem(last=False)
        return name

    def find(self, name: str) -> Kept:
        """The snapshot of an id.

        Raises:
            SnapshotError: there is none: it was changed, has expired, or was taken on another server.
        """
        found = self._kept.get(name)
        if found is None or found.until < self._clock():
            raise SnapshotError(
                f"there is no snapshot {name!r:.80}: it was changed, was not used for {self._seconds:g} s, made room "
                "for newer ones, or is of another server"
            )
        self.keep(found.split, found.snapshot)
        return found
