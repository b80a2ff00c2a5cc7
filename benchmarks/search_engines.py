"""The engines that ``search_index`` compares, each built from the same passage file and asked alike.

Embedded index and Elasticsearch are ours; bm25s, SQLite's FTS5 and the Elasticsearch client's own bulk helper stand
beside them, each used as its documentation says and with the same BM25 constants.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from elasticsearch import Elasticsearch, helpers

import search_backend
from search_backend import EmbeddedIndex, SearchBackend, read_passages
from search_backend.analysis import K1, TITLE_BOOST, B
from search_backend.elastic.load import CHUNK_BYTES, CHUNK_DOCUMENTS, THREADS, load_index

Search = Callable[[Sequence[str]], list[list[str]]]
"""The ids of the best passages of each query."""


class Engine(Protocol):
    """What the benchmark needs of an engine. ``folder`` is its own."""

    def build(self, file: Path, folder: Path) -> None:
        """Make the index."""
        ...

    def size(self, folder: Path) -> int:
        """Bytes on disk."""
        ...

    def open(self, folder: Path, k: int) -> Search:
        """Open it, to find the best ``k``."""
        ...


def tree_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _ids(backend: SearchBackend, k: int) -> Search:
    return lambda queries: [[hit.passage.id for hit in hits] for hits in backend.search(queries, k)]


class Embedded:
    """This project's index on disk."""

    def build(self, file: Path, folder: Path) -> None:
        """Sort, index, digest and seal, as ``at2po-agent index build`` does."""
        EmbeddedIndex.build(folder / "index", read_passages(file)).close()

    def size(self, folder: Path) -> int:
        """Bytes on disk."""
        return tree_size(folder)

    def open(self, folder: Path, k: int) -> Search:
        """Map its files."""
        return _ids(EmbeddedIndex.open(folder / "index"), k)


class Bm25s:
    """bm25s with numba; it holds scores and no text, and all of it is read into memory."""

    def build(self, file: Path, folder: Path) -> None:
        """Tokenize all passages, then score every word in every passage."""
        import bm25s

        texts = [" ".join([*[p.title] * TITLE_BOOST, p.text]) for p in read_passages(file)]
        tokens = bm25s.tokenize(texts, stopwords=None, show_progress=False)
        del texts
        model = bm25s.BM25(k1=K1, b=B, method="lucene", backend="numba")
        model.index(tokens, show_progress=False)
        model.save(folder / "bm25s", show_progress=False)

    def size(self, folder: Path) -> int:
        """Bytes on disk."""
        return tree_size(folder)

    def open(self, folder: Path, k: int) -> Search:
        """Read it into memory; our files number their passages from 0, so a row number is an id."""
        import bm25s

        model = bm25s.BM25.load(folder / "bm25s", show_progress=False)

        def search(queries: Sequence[str]) -> list[list[str]]:
            tokens = bm25s.tokenize(list(queries), stopwords=None, return_ids=False, show_progress=False)
            rows = model.retrieve(tokens, k=k, show_progress=False, backend_selection="numba").documents
            return [[str(row) for row in line] for line in rows]

        return search


class SqliteFts5:
    """SQLite's full-text index: the naive way, as it comes with Python."""

    def build(self, file: Path, folder: Path) -> None:
        """One transaction."""
        with sqlite3.connect(folder / "fts5.sqlite") as database:
            database.execute("CREATE VIRTUAL TABLE passage USING fts5(id UNINDEXED, title, text)")
            rows = ((p.id, p.title, p.text) for p in read_passages(file))
            database.executemany("INSERT INTO passage VALUES (?, ?, ?)", rows)
        database.close()

    def size(self, folder: Path) -> int:
        """Bytes on disk."""
        return tree_size(folder)

    def open(self, folder: Path, k: int) -> Search:
        """A connection for each thread that asks."""
        local = threading.local()
        ranked = "SELECT id, title, text FROM passage WHERE passage MATCH ? AND rank MATCH ? ORDER BY rank LIMIT ?"

        def ask(query: str) -> list[str]:
            if not hasattr(local, "connection"):
                local.connection = sqlite3.connect(folder / "fts5.sqlite")
            terms = " OR ".join(f'"{word}"' for word in dict.fromkeys(re.findall(r"\w+", query)))
            rows = local.connection.execute(ranked, (terms, f"bm25(0, {TITLE_BOOST}, 1)", k))
            return [row[0] for row in rows]

        ask("nothing")
        return lambda queries: [ask(query) for query in queries]


class _OnServer:
    """An index on the Elasticsearch at AT2PO_ES_URL."""

    name = "at2po-benchmark"

    def __init__(self) -> None:
        self.host = os.environ["AT2PO_ES_URL"].split("://")[-1].rstrip("/")
        # Hundreds of searches are asked at once here, which a busy server may take long to answer.
        self.uri = f"elasticsearch://{self.host}/{self.name}?timeout=120"

    def client(self) -> Elasticsearch:
        return Elasticsearch(f"http://{self.host}", request_timeout=600)

    def size(self, folder: Path) -> int:
        """Bytes on the server's disk."""
        with self.client() as client:
            client.indices.flush(index=self.name)
            stats = client.indices.stats(index=self.name, metric="store")
        return int(stats["_all"]["primaries"]["store"]["size_in_bytes"])

    def clear(self) -> None:
        """Delete what earlier runs left."""
        with self.client() as client:
            for index in client.indices.get(index=f"{self.name}*", ignore_unavailable=True):
                client.indices.delete(index=index)


class ElasticsearchIndex(_OnServer):
    """This project's index on a server."""

    def build(self, file: Path, folder: Path) -> None:
        """Sort, digest, make the terms and send, as ``at2po-agent index build`` does."""
        self.clear()
        load_index(self.uri, read_passages(file)).close()

    def open(self, folder: Path, k: int) -> Search:
        """Connect."""
        return _ids(search_backend.open(self.uri), k)


class BulkHelper(_OnServer):
    """``helpers.bulk`` or ``parallel_bulk`` of passages as they come: what the load into Elasticsearch is measured by.

    The same settings: nothing refreshed or copied while it loads, and in the parallel one as many threads, which send
    requests of the same size.
    """

    name = "at2po-benchmark-bulk"

    def __init__(self, *, parallel: bool) -> None:
        super().__init__()
        self._parallel = parallel

    def build(self, file: Path, folder: Path) -> None:
        """Send everything, then refresh."""
        self.clear()
        text = {"type": "text"}
        mappings = {"properties": {"id": {"type": "keyword"}, "title": text, "text": text}}
        settings = {"refresh_interval": "-1", "number_of_replicas": 0}
        with self.client() as client:
            client.indices.create(index=self.name, mappings=mappings, settings=settings)
            deque(self._send(client, file), maxlen=0)
            client.indices.refresh(index=self.name)

    def _send(self, client: Elasticsearch, file: Path) -> Iterable[Any]:
        actions = ({"_id": p.id, "id": p.id, "title": p.title, "text": p.text} for p in read_passages(file))
        if not self._parallel:
            return helpers.streaming_bulk(client, actions, index=self.name)  # what helpers.bulk counts
        return helpers.parallel_bulk(
            client,
            actions,
            index=self.name,
            thread_count=THREADS,
            chunk_size=CHUNK_DOCUMENTS,
            max_chunk_bytes=CHUNK_BYTES,
            queue_size=THREADS,
        )

    def open(self, folder: Path, k: int) -> Search:
        """Search title and text in one query, as the client's documentation does."""
        client = self.client()

        def ask(query: str) -> list[str]:
            match = {"multi_match": {"query": query, "fields": [f"title^{TITLE_BOOST}", "text"]}}
            hits = client.search(index=self.name, query=match, size=k, track_total_hits=False)["hits"]["hits"]
            return [hit["_id"] for hit in hits]

        return lambda queries: [ask(query) for query in queries]


ENGINES: dict[str, Callable[[], Engine]] = {
    "embedded": Embedded,
    "elasticsearch": ElasticsearchIndex,
    "bulk": lambda: BulkHelper(parallel=False),
    "parallel-bulk": lambda: BulkHelper(parallel=True),
    "bm25s": Bm25s,
    "fts5": SqliteFts5,
}
