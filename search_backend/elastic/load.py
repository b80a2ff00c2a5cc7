"""Load a corpus into Elasticsearch: streaming, resumable, and visible only when all of it is there.

Passages are numbered in the order of their ids, and the number is the document's ``_id``; the index is called after its
alias and the manifest's digest. So a load that was interrupted finds its index again, sees which blocks of numbers are
whole, and sends the others; a document that is there already is refused by the server and not counted twice.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import elasticsearch
from elasticsearch import Elasticsearch, helpers

from search_backend.analysis import K1, MAX_QUERY_TERMS, MEMORY_MB, TITLE_BOOST, Analyzer, B, check_options
from search_backend.base import BadAnswer, CorpusError, Manifest, Passage, SearchError
from search_backend.elastic import layout
from search_backend.elastic.address import Address, parse_address
from search_backend.elastic.backend import ElasticsearchBackend
from search_backend.elastic.bulk import BulkClient
from search_backend.elastic.failures import attempt, part, wait_until_ready
from search_backend.elastic.vectors import Embedder, open_embedder
from search_backend.embedded.files import pack
from search_backend.embedded.sort import PROGRESS_EVERY, Progress, SortedCorpus
from search_backend.outside import well_formed

BLOCK = 10_000
"""Documents whose presence is checked together when a load is resumed."""

EMBEDDED_TOGETHER = 512
"""Passages whose vectors are made together; the model's batches in it are of passages of about one length."""

ANSWERED = ["items.*._id", "items.*.status", "items.*.error"]
"""What the server says of every document; the rest would be written, sent and read for nothing."""

CHUNK_DOCUMENTS, CHUNK_BYTES, THREADS, _BULK_TIMEOUT_S = 500, 8_000_000, 2, 60.0


def load_index(
    uri: str,
    passages: Iterable[Passage],
    *,
    analyzer: str = "standard",
    title_boost: int = TITLE_BOOST,
    k1: float = K1,
    b: float = B,
    shards: int = 1,
    replicas: int = 0,
    memory_mb: int = MEMORY_MB,
    progress: Progress | None = None,
) -> ElasticsearchBackend:
    """Load passages under the name in the URI, which becomes an alias of the finished index, and open it.

    What the alias stood for before is kept, for runs that still search it. Loading the same corpus again costs a sort;
    loading it after an interruption goes on.

    Args:
        uri: ``elasticsearch://HOST[:PORT]/NAME?…``; with ``hybrid=MODEL`` every passage gets a vector too.
        passages: Read once, in any order; the result does not depend on it.
        analyzer: ``standard``, ``english`` or ``multilingual``, the embedded index's.
        title_boost: How many times the title is counted.
        k1: BM25's saturation of repeated words.
        b: BM25's weight of a passage's length.
        shards: Primary shards; passages are weighed alike whatever their number.
        replicas: Copies of each shard, made when the load is finished.
        memory_mb: Bound on the memory for sorting, about four times what is held; a larger corpus uses the disk.
        progress: Called with the phase and the number of passages done.

    Raises:
        CorpusError: The passages are unusable, or the name is taken by something else.
        SearchUnavailable: The server is gone, or stays overloaded; load again to go on.
        SearchError: It refuses us.
    """
    address = parse_address(uri)
    report = progress or (lambda phase, done: None)
    check_options(analyzer, title_boost, memory_mb)
    words = Analyzer(analyzer)
    embedder = open_embedder(address.hybrid.model) if address.hybrid else None
    options = address.client_options() | {"request_timeout": max(address.timeout, _BULK_TIMEOUT_S)}
    client = BulkClient(**options)
    client.address = address
    with closing(client), tempfile.TemporaryDirectory(prefix="at2po-load-") as scratch:
        wait_until_ready(client, address)
        _check_name(client, address)
        corpus = SortedCorpus(passages, Path(scratch), memory_mb * 1_000_000 // 4, report)
        digest, count = _digest(corpus)
        parameters = {
            "engine": _engine(client, address),
            "k1": k1,
            "b": b,
            "title_boost": title_boost,
            "max_query_terms": MAX_QUERY_TERMS,
            "shards": shards,
        }
        if embedder:
            parameters["embedder"] = embedder.identity | {"index": layout.VECTOR_INDEX}
        manifest = Manifest("elasticsearch", digest, count, analyzer, parameters)
        name = f"{address.index}-{manifest.digest[:16]}"
        complete, made = _create(client, address, name, manifest)
        if not complete:
            whole = _whole_blocks(client, address, name, count)
            todo = _missing(corpus, whole, report)
            _send(client, address, name, _documents(todo, words, title_boost, embedder))
        _finish(client, address, name, manifest, made, replicas)
    return ElasticsearchBackend(address, name, manifest)


def _digest(corpus: Iterable[Passage]) -> tuple[str, int]:
    """The corpus digest, as the embedded index has it, and the number of passages."""
    digest, count = hashlib.sha256(), 0
    for passage in corpus:
        digest.update(pack(passage))
        count += 1
    return digest.hexdigest(), count


def _engine(client: Elasticsearch, address: Address) -> str:
    version = part(address, attempt(address, client.info), "version", "number")
    return "elasticsearch " + ".".join(well_formed(str(version)).split(".")[:2])


def _check_name(client: Elasticsearch, address: Address) -> None:
    """Say before a long load that the name cannot become an alias."""
    taken = attempt(address, lambda: client.indices.exists(index=address.index))
    if taken and not attempt(address, lambda: client.indices.exists_alias(name=address.index)):
        raise CorpusError(f"{address}: an index of this very name is there; choose another name, or delete it")


def _create(client: Elasticsearch, address: Address, name: str, manifest: Manifest) -> tuple[bool, str]:
    """Create the index unless it is there; return whether all of it is there already, and the server's own id of it."""
    try:
        attempt(
            address,
            lambda: client.indices.create(
                index=name,
                mappings=layout.mappings(manifest, complete=False),
                settings=layout.settings(manifest, replicas=0),
            ),
        )
    except SearchError as error:
        cause = error.__cause__
        if not isinstance(cause, elasticsearch.BadRequestError) or cause.error != "resource_already_exists_exception":
            raise
    return _described(client, address, name)


def _described(client: Elasticsearch, address: Address, name: str) -> tuple[bool, str]:
    """Whether all of the index is there, and the server's own id of it, which an index that is made anew has not."""
    description = part(address, attempt(address, lambda: client.indices.get(index=name)), name)
    uuid = part(address, description, "settings", "index", "uuid")
    return layout.read(name, description, address).complete, str(uuid)


def _check_same(client: Elasticsearch, address: Address, name: str, made: str) -> None:
    """Refuse an index that is not the one that was made for this load.

    A server creates the index of a bulk request that it lacks, with a mapping that it guesses.

    Raises:
        CorpusError: It was deleted meanwhile.
    """
    try:
        same = _described(client, address, name)[1] == made
    except CorpusError:
        same = False
    if not same:
        raise CorpusError(
            f"{address}: the index {name} was deleted while it was loaded, and what has its name now is another one; "
            "delete that and load again"
        )


def _whole_blocks(client: Elasticsearch, address: Address, name: str, count: int) -> frozenset[int]:
    """Numbers of the blocks of which the server has every document."""

    def ask() -> Any:
        client.indices.refresh(index=name)
        ranks = {"histogram": {"field": layout.RANK, "interval": BLOCK, "offset": 1, "min_doc_count": 1}}
        return client.search(index=name, size=0, aggs={"blocks": ranks})

    buckets = part(address, attempt(address, ask), "aggregations", "blocks", "buckets")
    try:
        held = {int(bucket["key"] - 1) // BLOCK: int(bucket["doc_count"]) for bucket in buckets}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadAnswer(f"{address}: not an answer of Elasticsearch to what {name} holds ({error!r})") from error
    return frozenset(block for block, there in held.items() if there == min(BLOCK, count - block * BLOCK))


def _missing(corpus: Iterable[Passage], whole: frozenset[int], report: Progress) -> Iterator[tuple[int, Passage]]:
    """Number the passages from 1, and leave out those in whole blocks."""
    for rank, passage in enumerate(corpus, 1):
        if rank % PROGRESS_EVERY == 0:
            report("indexing", rank)
        if (rank - 1) // BLOCK not in whole:
            yield rank, passage


def _documents(
    passages: Iterable[tuple[int, Passage]], words: Analyzer, title_boost: int, embedder: Embedder | None
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each passage's number and document, with its vector where there is an embedder."""
    if embedder is None:
        for rank, passage in passages:
            yield rank, layout.document(passage, rank, words, title_boost)
        return
    rest = iter(passages)
    while batch := list(itertools.islice(rest, EMBEDDED_TOGETHER)):
        vectors = embedder.passages([passage for _, passage in batch])
        for (rank, passage), vector in zip(batch, vectors, strict=True):
            yield rank, layout.document(passage, rank, words, title_boost) | {layout.VECTOR: vector}


def _send(client: BulkClient, address: Address, name: str, documents: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
    """Stream the documents to the server, a few requests ahead of it.

    ``parallel_bulk`` reads its input to the end also after an error, so an error ends the input.
    """
    stop = threading.Event()

    def actions() -> Iterator[dict[str, Any]]:
        for rank, document in documents:
            if stop.is_set():
                return
            yield {"_op_type": "create", "_id": str(rank), "_source": document}

    client.stop = stop
    results = helpers.parallel_bulk(
        client,
        actions(),
        thread_count=THREADS,
        chunk_size=CHUNK_DOCUMENTS,
        max_chunk_bytes=CHUNK_BYTES,
        queue_size=THREADS,
        raise_on_error=False,
        index=name,
        filter_path=ANSWERED,
    )

    def consume() -> None:
        for done, result in results:
            item = result["create"]
            if not done and item["status"] != 409:  # 409: sent before, in an interrupted load or a lost answer
                stop.set()
                raise CorpusError(f"{address}: document {item['_id']} of {name} was refused: {item['error']}")

    # In a thread, so that Ctrl-C arrives here and not in parallel_bulk, which would finish the load first.
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(consume).result()
        finally:
            stop.set()


def _finish(client: Elasticsearch, address: Address, name: str, manifest: Manifest, made: str, replicas: int) -> None:
    """Check that every passage arrived, seal the index, and let the alias stand for it alone, in one step."""
    _check_same(client, address, name, made)
    attempt(address, lambda: client.indices.refresh(index=name))
    count = layout.passages(client, address, name)
    if count != manifest.passages:
        raise CorpusError(f"{address}: {name} holds {count} passages instead of {manifest.passages}; load it again")
    ready = {"refresh_interval": "1s", "number_of_replicas": replicas}
    attempt(address, lambda: client.indices.put_settings(index=name, settings=ready))
    attempt(
        address,
        lambda: client.indices.put_mapping(index=name, meta=layout.meta(manifest, complete=True)),
    )
    swap: list[Mapping[str, Any]] = [
        {"remove": {"index": "*", "alias": address.index, "must_exist": False}},
        {"add": {"index": name, "alias": address.index}},
    ]
    attempt(address, lambda: client.indices.update_aliases(actions=swap))
