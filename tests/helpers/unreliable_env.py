"""MicroWiki with a search that is slow at random, or down for some queries: a double at the transport."""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from collections.abc import Sequence
from typing import Any

import gymnasium

from at2po_env.rules import Rules
from at2po_env.search_qa import SearchQAEnv
from search_backend.base import Hit, Manifest, SearchBackend, SearchUnavailable

ID = "Unreliable-MicroWiki-v0"


class Unreliable:
    """Answers as ``over`` does, after a random delay of up to ``delay`` seconds, and never for a share of queries."""

    def __init__(self, over: SearchBackend, delay: float, down: float) -> None:
        self.over, self.delay, self.down = over, delay, down

    @property
    def manifest(self) -> Manifest:
        return self.over.manifest

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        time.sleep(random.random() * self.delay)
        return self._answer(queries, k)

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        await asyncio.sleep(random.random() * self.delay)
        return self._answer(queries, k)

    def _answer(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        if any(zlib.crc32(query.encode()) % 100 < 100 * self.down for query in queries):
            raise SearchUnavailable("the index is being rebuilt")
        return self.over.search(queries, k)

    def close(self) -> None:
        self.over.close()


def make(delay: float = 0.0, down: float = 0.0, **kwargs: Any) -> SearchQAEnv:
    env = gymnasium.make("AT2PO-MicroWiki-v0", **kwargs).unwrapped
    assert isinstance(env, SearchQAEnv)
    rules = Rules.of(dialect="bare", k=1, max_searches=4, reward=env.rules.reward)
    return SearchQAEnv(env.dataset, Unreliable(env.search, delay, down), rules)


gymnasium.register(ID, entry_point=f"{__name__}:make")
