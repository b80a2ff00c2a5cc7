"""One process's connection to Elasticsearch: searches that wait at the same time go together, and are sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from elasticsearch import AsyncElasticsearch

from search_backend.background import BackgroundLoop
from search_backend.base import BadAnswer, SearchError, SearchUnavailable, was_closed
from search_backend.elastic.address import Address
from search_backend.elastic.answers import RankedHit, read_hits
from search_backend.elastic.failures import BACKOFF, CLIENT_ERRORS, Failure, failure, is_too_large, item_failure
from search_backend.elastic.nodes import BoundedAsyncNode

BATCH = 64  # searches in one request
BATCH_HITS = 2048  # hits that one request may ask for, about
IN_FLIGHT = 4  # requests at once; what is asked meanwhile goes together in the next

Body = dict[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Search:
    body: Body
    answer: asyncio.Future[list[RankedHit]]


class Link:
    """A client on a background event loop.

    Args:
        address: Where the server is, and how patiently it is asked.
        index: What is searched.
        sharded: Whether the index has several shards.
    """

    def __init__(self, address: Address, index: str, sharded: bool) -> None:
        self._address, self._index = address, index
        self._sharded = sharded
        self._client = AsyncElasticsearch(**address.client_options() | {"node_class": BoundedAsyncNode})
        self._waiting: list[_Search] = []
        self._running: set[asyncio.Task[None]] = set()
        self._starting = 0  # tasks that have not taken any search yet
        self._background = BackgroundLoop("elasticsearch", partial(was_closed, str(address)))

    def run(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Run a coroutine, which may call ``ask``, on the link's event loop."""
        return self._background.submit(work)

    def close(self) -> None:
        """End what is under way, and the connections."""
        self._background.close(self._client.close)

    async def ask(self, bodies: Sequence[Body]) -> list[list[RankedHit]]:
        """The hits of every search.

        Raises:
            SearchError: One of them failed for good.
        """
        loop = asyncio.get_running_loop()
        searches = [_Search(body, loop.create_future()) for body in bodies]
        self._waiting += searches
        while len(self._running) < IN_FLIGHT and self._starting < len(self._waiting):
            self._starting += 1
            task = loop.create_task(self._send_waiting())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await asyncio.gather(*(search.answer for search in searches), return_exceptions=True)
        return [search.answer.result() for search in searches]

    async def _send_waiting(self) -> None:
        self._starting -= 1
        while self._waiting:
            size = max(1, min(BATCH, BATCH_HITS // self._waiting[0].body["size"]))
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            try:
                await self._send([search for search in batch if not search.answer.cancelled()])
            except BaseException as error:
                for search in batch:
                    _fail(search, SearchUnavailable(f"{self._address}: the search was given up ({error!r})"))
                raise

    async def _send(self, batch: Sequence[_Search]) -> None:
        """Answer every search of a batch, or fail it; what may succeed later is sent again."""
        pauses = BACKOFF.pauses(self._address.retries)
        while batch:
            failed = await self._send_once(batch)
            pause = next(pauses, None) if failed else None
            batch = []
            for search, why in failed:
                if why.again and pause is not None:
                    batch = [*batch, search]
                else:
                    _fail(search, why.error)
            if batch and pause is not None:
                await asyncio.sleep(pause)

    def _kind(self, body: Body) -> dict[str, str]:
        """Shards weigh words by their own counts, unless these are gathered first; vectors need no counts."""
        return {"search_type": "dfs_query_then_fetch"} if self._sharded and "query" in body else {}

    async def _send_once(self, batch: Sequence[_Search]) -> list[tuple[_Search, Failure]]:
        """Send one request; return what it did not answer."""
        lines: list[dict[str, Any]] = []
        for search in batch:
            lines += [{"allow_partial_search_results": False, **self._kind(search.body)}, search.body]
        try:
            response = await self._client.msearch(index=self._index, searches=lines)
        except CLIENT_ERRORS as error:
            if is_too_large(error) and len(batch) > 1:
                half = len(batch) // 2
                return [*await self._send_once(batch[:half]), *await self._send_once(batch[half:])]
            return [(search, failure(error, self._address)) for search in batch]
        try:
            items = response["responses"]
            return self._take(batch, items)
        except (ValueError, KeyError, TypeError) as error:
            bad = BadAnswer(f"{self._address}: not an answer of Elasticsearch to {len(batch)} searches ({error!r})")
            return [(search, Failure(bad, again=True)) for search in batch]

    def _take(self, batch: Sequence[_Search], items: Sequence[Mapping[str, Any]]) -> list[tuple[_Search, Failure]]:
        """Answer the searches from the items of a response; return those whose item is no whole answer."""
        failed = []
        for search, item in list(zip(batch, items, strict=True)):
            if "error" in item:
                failed.append((search, item_failure(item, self._address)))
                continue
            try:
                hits = read_hits(item, search.body["size"], str(self._address))
            except SearchUnavailable as error:
                failed.append((search, Failure(error, again=True)))
                continue
            if not search.answer.done():
                search.answer.set_result(hits)
        return failed


def _fail(search: _Search, error: SearchError) -> None:
    if not search.answer.done():
        search.answer.set_exception(error)
