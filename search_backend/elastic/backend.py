"""Search in Elasticsearch, with the ranking of the embedded index: for corpora that do not fit beside the trainer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

from elasticsearch import Elasticsearch

from search_backend.analysis import Analyzer, query_terms
from search_backend.base import BadQuery, CorpusError, Hit, Manifest, check_request, was_closed
from search_backend.elastic import layout
from search_backend.elastic.address import Address, parse_address
from search_backend.elastic.failures import wait_until_ready
from search_backend.elastic.fusion import WINDOW, Hybrid, fuse
from search_backend.elastic.link import Body, Link
from search_backend.elastic.vectors import open_embedder
from search_backend.forks import PerProcess


class ElasticsearchBackend:
    """A read-only index on a server, shared by threads, event loops, forks and pickles. Holds no secret.

    Every search goes through one asynchronous client on a thread of its own; what callers ask at the same time is sent
    together (``_msearch``). A name that is an alias is resolved once: a later swap does not change a running backend.
    """

    def __init__(self, address: Address, name: str, manifest: Manifest) -> None:
        self._address, self._name = address, name
        self._manifest = self._index_manifest = manifest
        self._analyzer = Analyzer(manifest.analyzer)
        self._max_terms = int(manifest.parameters["max_query_terms"])
        self._hybrid = address.hybrid
        if self._hybrid:
            self._manifest = _with_vectors(manifest, self._hybrid, address)
        sharded = manifest.parameters["shards"] > 1
        self._link = PerProcess(partial(Link, address, name, sharded), partial(was_closed, str(address)))

    @classmethod
    def open(cls, address: Address) -> ElasticsearchBackend:
        """Wait until the server is ready, and open the index of that name.

        Raises:
            CorpusError: There is no such index, or it is unfinished, damaged or not ours; or it lacks the vectors that
                ``hybrid`` in the address asks for.
            SearchUnavailable: The server did not get ready.
            SearchError: It refuses us.
        """
        with Elasticsearch(**address.client_options()) as client:
            wait_until_ready(client, address)
            found = layout.find(client, address)
            if found is None:
                raise CorpusError(f"{address}: there is no such index; build it with: at2po-agent index build")
            if not found.complete:
                raise CorpusError(f"{address}: the index is only partly loaded; run index build again to finish it")
            count = layout.passages(client, address, found.name)
        if count != found.manifest.passages:
            raise CorpusError(
                f"{address}: the index {found.name} holds {count} passages instead of {found.manifest.passages}; "
                "delete it and build it again"
            )
        return cls(address, found.name, found.manifest)

    @property
    def manifest(self) -> Manifest:
        """Corpus digest, analyzer and parameters, as the index's ``_meta`` has them; and of a hybrid search its own."""
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
        self._link.close()

    def __reduce__(self) -> tuple[Callable[..., ElasticsearchBackend], tuple[Address, str, Manifest]]:
        return ElasticsearchBackend, (self._address, self._name, self._index_manifest)

    def _submit(self, queries: Sequence[str], k: int) -> Future[list[list[Hit]]]:
        check_request(queries, k)
        k = min(k, self._manifest.passages)
        if k > layout.MAX_HITS:
            raise BadQuery(f"k is {k}; Elasticsearch returns at most {layout.MAX_HITS} hits of a query")
        link = self._link.get()
        return link.run(self._answer(link, queries, k))

    async def _answer(self, link: Link, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """On the link's event loop: make the requests, ask, fuse."""
        words = {query: " ".join(query_terms(self._analyzer, query)[: self._max_terms]) for query in queries}
        asked = [query for query in words if words[query]]
        if self._hybrid and asked:
            answers = await self._fused(link, self._hybrid, asked, [words[query] for query in asked], k)
        else:
            found = await link.ask([_match(words[query], k) for query in asked])
            answers = [[Hit(hit.passage, hit.score) for hit in hits] for hits in found]
        by_query = dict(zip(asked, answers, strict=True))
        return [list(by_query.get(query, [])) for query in queries]

    async def _fused(
        self, link: Link, hybrid: Hybrid, queries: Sequence[str], words: Sequence[str], k: int
    ) -> list[list[Hit]]:
        """Ask for both rankings of every query, and fuse them."""
        size = max(k, min(WINDOW, self._manifest.passages))
        vectors = await asyncio.to_thread(open_embedder(hybrid.model).queries, queries)
        bodies = [_match(one, size) for one in words]
        bodies += [_nearest(vector, size, hybrid.candidates) for vector in vectors]
        found = await link.ask(bodies)
        answers = []
        for lists in zip(found[: len(queries)], found[len(queries) :], strict=True):
            passages = {hit.place: hit.passage for hits in lists for hit in hits}
            ranked = fuse([[hit.place for hit in hits] for hits in lists], hybrid.rrf)
            answers.append([Hit(passages[place], score) for place, score in ranked[:k]])
        return answers


def _with_vectors(manifest: Manifest, hybrid: Hybrid, address: Address) -> Manifest:
    """The manifest of a hybrid search: the index's, and how the two rankings are made and fused.

    Raises:
        CorpusError: The index has no vectors, or those of another model.
    """
    embedder, made_with = open_embedder(hybrid.model).identity, manifest.parameters.get("embedder")
    if made_with is None or made_with["digest"] != embedder["digest"]:
        has = (
            "has no vectors"
            if made_with is None
            else f"has vectors of {made_with['model']} ({made_with['digest'][:12]})"
        )
        raise CorpusError(
            f"{address}: the index {has}, and hybrid={hybrid.model} ({embedder['digest'][:12]}) is asked for; load it "
            "again with: at2po-agent index build"
        )
    return replace(manifest, parameters={**manifest.parameters, "hybrid": hybrid.to_json()})


def _match(words: str, size: int) -> Body:
    return _body(size) | {"query": {"match": {layout.CONTENT: {"query": words}}}}


def _nearest(vector: list[float], size: int, candidates: int) -> Body:
    nearest = {"field": layout.VECTOR, "query_vector": vector, "k": size}
    return _body(size) | {"knn": nearest | {"num_candidates": max(candidates, size)}}


def _body(size: int) -> Body:
    return {
        "size": size,
        "sort": ["_score", {layout.RANK: "asc"}],
        "track_total_hits": False,
        "_source": layout.SOURCE,
    }


def open_uri(uri: str) -> ElasticsearchBackend:
    """Open ``elasticsearch://HOST[:PORT]/INDEX?…``; see ``address.parse_address``."""
    return ElasticsearchBackend.open(parse_address(uri))
