"""Outlast a search, a tool or an engine that does not answer, and report it once rather than once per path."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from at2po_agent.policy.base import PolicyUnavailable
from at2po_env.errors import ToolUnavailable
from search_backend.base import SearchUnavailable
from search_backend.retry import Backoff

LONGEST_PAUSE_SECONDS = 15.0
REMIND_SECONDS = 30.0  # between two lines about one outage
QUIET_SECONDS = 10.0  # after one ended: what fails again so soon is not a new one

UNAVAILABLE = (SearchUnavailable, ToolUnavailable, PolicyUnavailable)
"""The errors after which the same attempt may succeed later."""

Result = TypeVar("Result")


@dataclass
class _Outage:
    since: float
    speak_at: float
    waiting: set[object] = field(default_factory=set)  # paths that failed and try again
    lost: int = 0  # paths that failed for good
    said: bool = False


class Outages:
    """Backends that are down at the moment; shared by all paths of a run.

    A line is said when a backend stops to answer (what, why, when the next try is), every half minute while it stays
    away, and when the first path that had failed goes on, or the last one is given up.

    Args:
        say: shows a line.
        clock: seconds, monotonic.
    """

    def __init__(
        self, say: Callable[[str], None] = lambda line: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._clock = say, clock
        self._down: dict[str, _Outage] = {}
        self._ended: dict[str, float] = {}
        self._paused_until: dict[str, float] = {}

    async def outlast(
        self,
        backend: str,
        attempt: Callable[[], Awaitable[Result]],
        *,
        undo: Callable[[], None] = lambda: None,
        retries: int,
        seconds: float,
    ) -> Result:
        """Try until it works: again after ``seconds``, then after twice that and so on, but at most 15 seconds.

        Args:
            backend: what is asked, in a word: ``search``, ``tools`` or ``engine``.
            attempt: one try.
            undo: called after every try that failed.
            retries: how many tries after the first.
            seconds: before the second try.

        Raises:
            SearchUnavailable: the search did not come back.
            ToolUnavailable: the server behind a tool did not.
            PolicyUnavailable: the engine did not.
        """
        path, retry = object(), 0
        while True:
            try:
                result = await attempt()
            except UNAVAILABLE as error:
                undo()
                if retry >= retries:
                    self.gave_up(backend, path, error, tries=retry + 1)
                    raise
                retry += 1
                pause = Backoff(seconds, max(seconds, LONGEST_PAUSE_SECONDS)).pause(retry)
                self.failed(backend, path, error, pause)
                await asyncio.sleep(pause)
            else:
                if retry:
                    self.answered(backend)
                return result

    def failed(self, backend: str, path: object, error: Exception, pause: float, patience: float = 0.0) -> None:
        """A path's attempt failed.

        Args:
            backend: what was asked, in a word.
            path: who asked; the same object at each of its attempts.
            error: what came instead of an answer.
            pause: seconds until its next attempt.
            patience: seconds in which nothing is said, where single attempts may fail and others go on.
        """
        outage, now = self._outage(backend, patience), self._clock()
        outage.waiting.add(path)
        if now >= outage.speak_at:
            still = f"has not answered for {now - outage.since:.0f} s" if outage.said else "does not answer"
            self._say(f"{backend} {still}: {error}; next try in {pause:g} s")
            outage.said, outage.speak_at = True, now + REMIND_SECONDS

    def paused(self, who: str, error: Exception, seconds: float) -> None:
        """Say at once that a backend asks for a pause, unless the last line about it covers that time.

        Args:
            who: its address.
            error: what it said.
            seconds: how long it wants to be left alone.
        """
        until = self._clock() + seconds
        if until > self._paused_until.get(who, -math.inf) + QUIET_SECONDS:
            self._paused_until[who] = until
            self._say(f"{who} asks for a pause of {seconds:,.0f} s: {error}")

    def gave_up(self, backend: str, path: object, error: Exception, tries: int) -> None:
        """A path failed for good."""
        outage = self._outage(backend)
        outage.waiting.discard(path)
        outage.lost += 1
        if not outage.waiting:
            self._end(
                backend, outage, f"did not come back: {_paths(outage.lost)} given up after {tries} tries: {error}"
            )

    def answered(self, backend: str) -> None:
        """A path got its answer: an outage, if there was one, is over."""
        outage = self._down.get(backend)
        if outage is not None:  # otherwise another path was faster
            lost = f"; {_paths(outage.lost)} given up meanwhile" if outage.lost else ""
            self._end(backend, outage, f"is back after {self._clock() - outage.since:.0f} s{lost}")

    def _outage(self, backend: str, patience: float = 0.0) -> _Outage:
        now = self._clock()
        quiet_until = self._ended.get(backend, -math.inf) + QUIET_SECONDS
        return self._down.setdefault(backend, _Outage(now, max(now + patience, quiet_until)))

    def _end(self, backend: str, outage: _Outage, how: str) -> None:
        now = self._clock()
        if outage.said or now >= outage.speak_at:
            self._say(f"{backend} {how}")
            self._ended[backend] = now
        del self._down[backend]


def _paths(n: int) -> str:
    return f"{n} path{'s' * (n != 1)}"
