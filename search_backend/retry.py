"""Retries of failed requests: one backoff schedule and one set of retryable statuses for all clients."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

RETRYABLE = frozenset({408, 409, 425, 429, *range(500, 600)}) - {501, 505}
"""HTTP statuses after which the same request may succeed later.

Timeouts, conflicts, overload and errors of a server or of a proxy before it (also 520 and 529, which are in no RFC),
but not a method or protocol that the server does not know.
"""

OVERLOADED = frozenset({429, 503})
"""The retryable statuses with which a server asks for fewer requests."""


@dataclass(frozen=True)
class Backoff:
    """Pauses between the tries of one request: each twice as long as the one before, up to a bound.

    Args:
        first: Seconds after the first failure.
        longest: Seconds, bound on every pause.
        jitter: Draws each pause between 0 and its length ("full jitter",
            https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), so that clients that failed
            together do not return together. Default: none.
    """

    first: float
    longest: float = math.inf
    jitter: random.Random | None = None

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, 1 or more."""
        # 2.0**60 seconds are longer than any bound; larger powers overflow.
        length = min(self.first * 2.0 ** min(failures - 1, 60), self.longest)
        return length if self.jitter is None else self.jitter.uniform(0, length)

    def pauses(self, retries: int) -> Iterator[float]:
        """Seconds before each of so many retries."""
        return map(self.pause, range(1, retries + 1))
