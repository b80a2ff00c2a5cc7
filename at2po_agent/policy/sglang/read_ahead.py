"""Prefill the prefixes that waiting prompts share, so that a server computes them once.

A server finds a prefix in its cache only when the request that brought it has been read. Prompts that arrive together,
as the first turns of all chains of a tree do, would each be read in full. So what at least two waiting prompts share is
sent alone first, with no token to generate: the instructions that all of them begin with, then each prompt that several
of them are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.prefixes import Ids, Prefixes, common_prefix

_TOGETHER_S = 0.002  # prompts that arrive in this time are looked at together
_WORTH_TOKENS = 8  # fewer are not worth a request of their own


class ReadAhead:
    """Holds prompts back until what they share with others has been read.

    Args:
        read: makes the server read a prompt; done when it has.
    """

    def __init__(self, read: Callable[[Ids], Awaitable[None]]) -> None:
        self._read = read
        self._known = Prefixes()  # what the server has read, or is reading for somebody who does not wait
        self._waiting: dict[Ids, list[asyncio.Future[None]]] = {}
        self._reading: dict[Ids, asyncio.Future[None]] = {}
        self._rounds: set[asyncio.Task[None]] = set()

    def forget(self) -> None:
        """The server's cache was emptied."""
        self._known.clear()

    async def ready(self, prompt: Ids) -> None:
        """Wait until the prompt can be sent."""
        worth = self._known.match(prompt)[0] + _WORTH_TOKENS
        if len(prompt) < worth:
            return
        start = prompt[:worth]
        for ids, read in self._reading.items():
            if ids[:worth] == start:
                await asyncio.shield(read)  # others may wait for it too
                return
        if not self._waiting:
            round_ = asyncio.create_task(self._round())
            self._rounds.add(round_)
            round_.add_done_callback(self._rounds.discard)
        done = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(prompt, []).append(done)
        await done

    async def _round(self) -> None:
        """Read what the waiting prompts share, and let each go as soon as its own part of that is read."""
        await asyncio.sleep(_TOGETHER_S)
        waiting, self._waiting = self._waiting, {}
        low, high = min(waiting), max(waiting)
        common = low[: common_prefix(low, high)] if low != high else ()
        several = [prompt for prompt, turns in waiting.items() if len(turns) > 1]
        worth = [ids for ids in dict.fromkeys([common, *several]) if self._is_worth_reading(ids)]
        loop = asyncio.get_running_loop()
        reading = {ids: loop.create_future() for ids in worth if ids not in self._reading}
        self._reading |= reading

        def done(ids: Ids) -> None:
            del self._reading[ids]
            reading.pop(ids).set_result(None)
            self._let_go(ids, waiting.pop(ids, ()))

        async def read(ids: Ids) -> None:
            try:
                await self._read_once(ids)
            finally:
                done(ids)

        try:
            if common in reading:
                await read(common)
            for prompt in [one for one in waiting if one not in reading]:
                self._let_go(prompt, waiting.pop(prompt))
            ends = await asyncio.gather(*map(read, list(reading)), return_exceptions=True)
        finally:  # of what was not begun when the policy was closed
            for ids in list(reading):
                done(ids)
            for prompt, turns in waiting.items():
                self._let_go(prompt, turns)
        for end in ends:
            if end is not None:
                raise end

    def _let_go(self, prompt: Ids, turns: Sequence[asyncio.Future[None]]) -> None:
        self._known.add(prompt)
        for turn in turns:
            if not turn.done():
                turn.set_result(None)

    def _is_worth_reading(self, ids: Ids) -> bool:
        return len(ids) - self._known.match(ids)[0] >= _WORTH_TOKENS

    async def _read_once(self, ids: Ids) -> None:
        try:
            await self._read(ids)
        except PolicyError:
            return  # the turns that were held back meet the same server, and say it where it is dealt with
        self._known.add(ids)
