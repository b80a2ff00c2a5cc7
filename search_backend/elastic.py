"""Search in Elasticsearch, with the ranking of the embedded index: for corpora that do not fit beside the trainer."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from elastic_transport import TransportError
from elasticsearch import ApiError, AsyncElasticsearch, Elasticsearch

from search_backend import elastic_layout, index_files
from search_backend.base import (
    BadQuery,
    CorpusError,
    Hit,
    Manifest,
    Passage,
    SearchError,
    SearchUnavailable,
    check_request,
)
from search_backend.elastic_client import (
    Address,
    Failure,
    attempt,
    failure,
    item_failure,
    parse_address,
    wait_until_ready,
    waits,
)

BATCH = 64  # searches in one request
BATCH_HITS = 2048  # hits that one request may ask for, about
IN_FLIGHT = 4  # requests at once; what is asked meanwhile goes together in the next


class ElasticsearchBackend:
    """A read-only index on a server, shared by threads, event loops, forks and pickles. Holds no secret.

    Every search goes through one asynchronous client on a thread of its own; what callers ask at the same time is sent
    together (``_msearch``). A name that is an alias is resolved once: a later swap does not change a running backend.
    """

    def __init__(self, address: Address, name: str, manifest: Manifest) -> None:
        self._address, self._name, self._manifest = address, name, manifest
        self._analyzer = elastic_layout.analyzer_of(manifest)
        self._max_terms = int(manifest.parameters["max_query_terms"])
        self._link: _Link | None = None
        self._closed = False
        self._guard, self._guard_process = threading.Lock(), os.getpid()

    @classmethod
    def open(cls, address: Address) -> ElasticsearchBackend:
        """Wait until the server is ready, and open the index of that name.

        Raises:
            CorpusError: There is no such index, or it is unfinished, damaged or not ours.
            SearchUnavailable: The server did not get ready.
            SearchError: It refuses us.
        """
        with Elasticsearch(**address.client_options()) as client:
            wait_until_ready(client, address)
            found = elastic_layout.find(client, address)
            if found is None:
                raise CorpusError(f"{address}: there is no such index; build it with: at2po-agent index build")
            if not found.complete:
                raise CorpusError(f"{address}: the index is not loaded to its end; build it again, it goes on")
            count = attempt(address, lambda: client.count(index=found.name))["count"]
        if count != found.manifest.passages:
            raise CorpusError(
                f"{address}: the index {found.name} holds {count} passages instead of {found.manifest.passages}; "
                "delete it and build it again"
            )
        return cls(address, found.name, found.manifest)

    @property
    def manifest(self) -> Manifest:
        """Corpus digest, analyzer and parameters, as the index's ``_meta`` has them."""
        return self._manifest

    @property
    def index(self) -> str:
        """The index that is searched, not its alias."""
        return self._name

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return at most ``k`` hits per query, best first, ties by passage id.

        Raises:
            BadQuery: ``k < 1`` or above 10,000, or a query is not a string.
            SearchTimeout: No answer within the address's timeout.
            SearchUnavailable: No connection, or the server is overloaded, also after the retries.
            CorpusError: The index is gone.
        """
        return self._submit(queries, k).result()

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """``search`` that lets the event loop go on."""
        return await asyncio.wrap_future(self._submit(queries, k))

    def close(self) -> None:
        """Close the connections; calling it twice is fine."""
        with self._lock():
            self._closed = True
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def __reduce__(self) -> tuple[Callable[..., ElasticsearchBackend], tuple[Address, str, Manifest]]:
        return ElasticsearchBackend, (self._address, self._name, self._manifest)

    def _submit(self, queries: Sequence[str], k: int) -> Future[list[list[Hit]]]:
        check_request(queries, k)
        k = min(k, self._manifest.passages)
        if k > elastic_layout.MAX_HITS:
            raise BadQuery(f"k is {k}; Elasticsearch returns at most {elastic_layout.MAX_HITS} hits of a query")
        asked = [index_files.query_terms(self._analyzer, query)[: self._max_terms] for query in queries]
        return self._connection().answer([" ".join(terms) for terms in asked], k)

    def _connection(self) -> _Link:
        """This process's connection: a fork's threads do not run on."""
        with self._lock():
            if self._closed:
                raise SearchUnavailable(f"the backend {self._address} was closed")
            if self._link is None or self._link.process != os.getpid():
                sharded = self._manifest.parameters["shards"] > 1
                self._link = _Link(self._address, self._name, sharded)
                weakref.finalize(self, self._link.close)  # also at the interpreter's end
            return self._link

    def _lock(self) -> threading.Lock:
        if self._guard_process != os.getpid():  # a lock that was held while the process forked stays locked
            self._guard, self._guard_process = threading.Lock(), os.getpid()
        return self._guard


@dataclass(frozen=True)
class _Search:
    words: str
    k: int
    answer: asyncio.Future[list[Hit]]


class _Link:
    """One process's client, on an event loop in a thread."""

    def __init__(self, address: Address, index: str, sharded: bool) -> None:
        self.process = os.getpid()
        self._address, self._index = address, index
        # Shards weigh words by their own counts, unless these are gathered first.
        self._search_type = "dfs_query_then_fetch" if sharded else "query_then_fetch"
        self._client = AsyncElasticsearch(**address.client_options())
        self._waiting: list[_Search] = []
        self._running: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="elasticsearch", daemon=True)
        self._thread.start()

    def answer(self, words: Sequence[str], k: int) -> Future[list[list[Hit]]]:
        return self._run(self._answer(words, k))

    def close(self) -> None:
        if self.process != os.getpid() or self._loop.is_closed():
            return
        self._run(self._stop()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _stop(self) -> None:
        gone = SearchUnavailable(f"the backend {self._address} was closed")
        for search in self._waiting:
            _fail(search, gone)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._client.close()

    async def _answer(self, words: Sequence[str], k: int) -> list[list[Hit]]:
        searches = {one: _Search(one, k, self._loop.create_future()) for one in words if one}
        self._waiting += searches.values()
        while len(self._running) < min(IN_FLIGHT, len(self._waiting)):
            task = self._loop.create_task(self._send_waiting())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await asyncio.gather(*(search.answer for search in searches.values()), return_exceptions=True)
        return [list(searches[one].answer.result()) if one else [] for one in words]

    async def _send_waiting(self) -> None:
        while self._waiting:
            size = max(1, min(BATCH, BATCH_HITS // self._waiting[0].k))
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            try:
                await self._send([search for search in batch if not search.answer.cancelled()])
            except BaseException as error:
                for search in batch:
                    _fail(search, SearchUnavailable(f"{self._address}: the search was given up ({error!r})"))
                raise

    async def _send(self, batch: Sequence[_Search]) -> None:
        """Answer every search of a batch, or fail it; what may succeed later is sent again."""
        pauses = waits(self._address.retries)
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

    async def _send_once(self, batch: Sequence[_Search]) -> list[tuple[_Search, Failure]]:
        """Send one request; return what it did not answer."""
        lines: list[dict[str, Any]] = []
        for search in batch:
            lines += [{"allow_partial_search_results": False}, _body(search)]
        try:
            response = await self._client.msearch(index=self._index, searches=lines, search_type=self._search_type)
            items = response["responses"]
        except (TransportError, ApiError) as error:
            if getattr(error, "status_code", 0) == 413 and len(batch) > 1:
                half = len(batch) // 2
                return [*await self._send_once(batch[:half]), *await self._send_once(batch[half:])]
            return [(search, failure(error, self._address)) for search in batch]
        failed = []
        for search, item in zip(batch, items, strict=True):
            if "error" in item:
                failed.append((search, item_failure(item, self._address)))
            elif not search.answer.done():
                search.answer.set_result([_hit(hit) for hit in item["hits"]["hits"]])
        return failed


def _body(search: _Search) -> dict[str, Any]:
    return {
        "query": {"match": {elastic_layout.CONTENT: {"query": search.words}}},
        "size": search.k,
        "sort": ["_score", {elastic_layout.RANK: "asc"}],
        "track_total_hits": False,
        "_source": elastic_layout.SOURCE,
    }


def _hit(found: dict[str, Any]) -> Hit:
    source = found["_source"]
    return Hit(Passage(source["id"], source["title"], source["text"]), float(found["_score"]))


def _fail(search: _Search, error: SearchError) -> None:
    if not search.answer.done():
        search.answer.set_exception(error)


def open_uri(uri: str) -> ElasticsearchBackend:
    """Open ``elasticsearch://HOST[:PORT]/INDEX?…``; see ``elastic_client.parse_address``."""
    return ElasticsearchBackend.open(parse_address(uri))
