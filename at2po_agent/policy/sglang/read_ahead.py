"""Prefill the prefixes that waiting prompts share, so that a server computes them once.

A server finds a prefix in its cache only when the request that brought it has been read. Prompts that arrive together,
as the first turns of all chains of a tree do, would each be read in full. So what at least two waiting prompts share is
sent alone first, with no token to generate: the instructions that all of them begin with, then each prompt that several
of them are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
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
        self._waiting: list[tuple[Ids, asyncio.Future[None]]] = []
        self._reading: dict[Ids, asyncio.Future[None]] = {}
        self._rounds: set[asyncio.Task[None]] = set()

    def forget(self) -> None:
        """The server's cache was emptied."""
        self._known.clear()

    async def ready(self, prompt: Ids) -> None:
        """Wait until the prompt can be sent."""
        known = self._known.match(prompt)[0]
        worth = known + _WORTH_TOKENS
        if len(prompt) < worth:
            return
        start = prompt[:worth]
        done = next((f for ids, f in self._reading.items() if ids[:worth] == start), None)
        if done is None:
            done = asyncio.get_running_loop().create_future()
            self._waiting.append((prompt, done))
            if len(self._waiting) == 1:
                round_ = asyncio.create_task(self._round())
                self._rounds.add(round_)
                round_.add_done_callback(self._rounds.discard)
        await asyncio.shield(done)  # others may wait for it too

    async def _round(self) -> None:
        await asyncio.sleep(_TOGETHER_S)
        waiting, self._waiting = self._waiting, []
        first, then = self._shared([prompt for prompt, _ in waiting])
        begun = {ids: asyncio.get_running_loop().create_future() for ids in (*first, *then) if ids not in self._reading}
        self._reading |= begun
        try:
            await asyncio.gather(*(self._read_once(ids) for ids in first if ids in begun))
            self._release([one for one in waiting if one[0] not in then])
            await asyncio.gather(*(self._read_once(ids) for ids in then if ids in begun))
        finally:
            for ids in begun:
                self._reading.pop(ids).set_result(None)
            self._release(waiting)

    def _release(self, held: Sequence[tuple[Ids, asyncio.Future[None]]]) -> None:
        for prompt, done in held:
            self._known.add(prompt)
            if not done.done():
                done.set_result(None)

    def _shared(self, prompts: Sequence[Ids]) -> tuple[list[Ids], list[Ids]]:
        """The prefixes that are worth prefilling first, and the prompts that follow."""
        low, high = min(prompts), max(prompts)
        common = low[: common_prefix(low, high)]
        several = [prompt for prompt, count in Counter(prompts).items() if count > 1]
        first = [common] if low != high and self._is_worth_reading(common) else []
        return first, [prompt for prompt in several if self._is_worth_reading(prompt)]

    def _is_worth_reading(self, ids: Ids) -> bool:
        return len(ids) - self._known.match(ids)[0] >= _WORTH_TOKENS

    async def _read_once(self, ids: Ids) -> None:
        try:
            await self._read(ids)
        except PolicyError:
            return  # the turns that were held back meet the same server, and say it where it is dealt with
        self._known.add(ids)
