"""The number of requests to an endpoint that may run at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Pacer:
    """Slots for requests: fewer after an overload, one more after every full round that went well.

    Additive increase, multiplicative decrease (Chiu & Jain 1989, https://doi.org/10.1016/0169-7552(89)90019-6), as TCP
    does it: requests that were under way together when the endpoint was overloaded halve the limit once, not each.
    Whoever waits is served in the order of asking.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._limit = float(most)
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed_until = 0.0  # on the loop's clock
        self._round = 0  # grows with every decrease

    @property
    def limit(self) -> int:
        """Requests that may run now."""
        return max(1, int(self._limit))

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[int]:
        """Wait for a slot and hold it; yields what ``overloaded`` is to be told."""
        await self._enter()
        try:
            yield self._round
        finally:
            self._running -= 1
            self._admit()

    def went_well(self) -> None:
        """A request was answered."""
        self._limit = min(float(self.most), self._limit + 1 / self.limit)
        self._admit()

    def overloaded(self, started_in: int, pause: float = 0.0) -> None:
        """The endpoint refused a request that got its slot in round ``started_in``; it asks for ``pause`` seconds."""
        loop = asyncio.get_running_loop()
        if pause > 0:
            self._closed_until = max(self._closed_until, loop.time() + pause)
            loop.call_later(pause, self._admit)
        if started_in == self._round:
            self._round += 1
            self._limit = max(1.0, self._limit / 2)

    async def _enter(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it was let in and cancelled at once
                self._running -= 1
            self._admit()
            raise

    def _admit(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._closed_until:
            return
        while self._waiting and self._running < self.limit:
            place = self._waiting.popleft()
            if not place.done():
                self._running += 1
                place.set_result(None)
