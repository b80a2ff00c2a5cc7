"""The default backend: a BM25 index on disk, memory-mapped, in this process (tantivy).

A passage is indexed as its title, ``title_boost`` times, followed by its text, in one field. On the sample corpora that
found the answer more often than two weighted fields did, and a repeated title evens out the lengths of short passages.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import tantivy

from search_backend.analysis import MEMORY_MB, TITLE_BOOST, Analyzer, query_terms
from search_backend.base import CorpusError, Hit, Manifest, Passage, SearchUnavailable, check_request
from search_backend.embedded import files, impacts
from search_backend.embedded.build import build_index
from search_backend.embedded.sort import Progress

_CACHED_PASSAGES = 16_384
_ORDER_SAMPLES = 1_000
# Passages. A search of a smaller index takes less time than handing it to another thread.
_SMALL = 10_000


class EmbeddedIndex:
    """A read-only index on disk, opened in milliseconds and shared by threads, forks and pickles.

    Queries are plain text without any syntax: their distinct terms (at most ``max_query_terms`` of the manifest, first
    come) are looked up, and a passage scores the sum of its BM25 weights. Scores are tantivy's, 32-bit and positive:
    2.2 (``k1 + 1``) times Lucene's. A query without a term finds nothing. Equal scores go by passage id.

    A forked or unpickled copy opens the directory again at its first search.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._directory = directory
        self._manifest = manifest
        self._reader: _Reader | None = None
        self._closed = False

    @classmethod
    def build(
        cls,
        directory: str | os.PathLike[str],
        passages: Iterable[Passage],
        *,
        analyzer: str = "standard",
        title_boost: int = TITLE_BOOST,
        memory_mb: int = MEMORY_MB,
        progress: Progress | None = None,
    ) -> EmbeddedIndex:
        """Build an index of a stream of passages and open it. All or nothing: a failure leaves no trace.

        Args:
            directory: Must not exist, or be empty.
            passages: Read once, in any order; the result does not depend on it.
            analyzer: ``standard`` (lower-cased words), ``english`` (stemmed too) or ``multilingual``; see
                ``analysis.Analyzer``.
            title_boost: How many times the title is counted.
            memory_mb: Bound on the memory for sorting and indexing, about; a larger corpus uses the disk.
            progress: Called with the phase and the number of passages done.

        Raises:
            CorpusError: No passage, different ones with one id, an unusable directory or a full disk.
        """
        target = files.resolve(directory)
        taken = CorpusError(
            f"{target} already exists and is not empty; open it, delete it, or choose another directory"
        )
        if files.occupied(target):
            raise taken
        built = build_index(
            target,
            passages,
            analyzer=analyzer,
            title_boost=title_boost,
            memory_mb=memory_mb,
            key=None,
            progress=progress,
        )
        if not built:
            raise taken
        return cls.open(target)

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> EmbeddedIndex:
        """Open a finished index.

        Raises:
            CorpusError: The directory is missing, unfinished or damaged.
        """
        path = files.resolve(directory)
        index = cls(path, files.read_manifest(path)[0])
        index._open_reader()
        return index

    @property
    def manifest(self) -> Manifest:
        """Corpus digest, analyzer and parameters; equal digests answer every query alike."""
        return self._manifest

    @property
    def directory(self) -> Path:
        """The absolute path of the index."""
        return self._directory

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return at most ``k`` hits per query, best first, ties by passage id.

        Raises:
            BadQuery: ``k < 1`` or a query is not a string.
            SearchUnavailable: The index was closed.
            CorpusError: A copy in another process finds the directory gone or changed.
        """
        check_request(queries, k)
        reader = self._open_reader()
        found = {query: reader.search(query, k) for query in dict.fromkeys(queries)}
        return [list(found[query]) for query in queries]

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """``search``, of a large index on a worker thread; tantivy releases the interpreter lock while it searches."""
        if self.manifest.passages <= _SMALL:
            return self.search(queries, k)
        return await asyncio.to_thread(self.search, queries, k)

    def close(self) -> None:
        """Drop the memory map; calling it twice is fine."""
        self._closed = True
        self._reader = None

    def __reduce__(self) -> tuple[Callable[..., EmbeddedIndex], tuple[Path, Manifest]]:
        return EmbeddedIndex, (self._directory, self._manifest)

    def _open_reader(self) -> _Reader:
        """This process's reader. Two threads may both make one; they are alike, and the later one stays."""
        reader = self._reader
        if reader is not None and reader.process == os.getpid():
            return reader
        if self._closed:
            raise SearchUnavailable(f"the index {self._directory} was closed")
        if files.read_manifest(self._directory)[0] != self._manifest:
            raise CorpusError(
                f"the index {self._directory} was replaced by another one since it was opened; open it anew"
            )
        self._reader = reader = _Reader(self._directory, self._manifest)
        return reader


class _Reader:
    """One process's open index. Holds no Python lock, so a fork can never inherit a held one."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.process = os.getpid()
        self._max_terms = int(manifest.parameters["max_query_terms"])
        self._passages = manifest.passages
        self._analyzer = Analyzer(manifest.analyzer)
        try:
            index = _open_tantivy(directory)
            self._schema = index.schema
            self._searcher = index.searcher()
            self._impacts = impacts.open_columns(directory, self._searcher, self._schema)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                f"the index {directory} cannot be opened: {error!r}; delete it and build it again"
            ) from error
        if self._searcher.num_docs != manifest.passages:
            raise CorpusError(
                f"the index {directory} holds {self._searcher.num_docs} passages instead of {manifest.passages}; "
                "delete it and build it again"
            )
        self._in_id_order = self._searcher.num_segments == 1 and self._is_in_id_order()
        self._passage = lru_cache(maxsize=_CACHED_PASSAGES)(self._load_passage)

    def search(self, query: str, k: int) -> list[Hit]:
        words = query_terms(self._analyzer, query)[: self._max_terms]
        if not words:
            return []
        top = self._impacts.best(words, k) if self._impacts else None
        if top is None:
            terms = (tantivy.Query.term_query(self._schema, files.CONTENT, word, "freq") for word in words)
            either = tantivy.Query.boolean_query([(tantivy.Occur.Should, term) for term in terms])
            top = self._top(either, min(k, self._passages))
        return [Hit(self._passage(address.segment_ord, address.doc), score) for score, address in top]

    def _top(self, query: tantivy.Query, k: int) -> list[tuple[float, Any]]:
        """The best ``k`` of (score, address) by score, then id.

        The engine prefers the first of equals within a segment, which is right if documents lie in id order. Otherwise
        the fetch grows until everything that ties with the last hit is in it.
        """
        if self._in_id_order:
            return list(self._searcher.search(query, k, count=False).hits)
        fetch = k + 1
        while True:
            hits = self._searcher.search(query, fetch, count=False).hits
            if len(hits) < fetch or hits[-1][0] < hits[k - 1][0]:
                break
            fetch *= 8
        ranks = self._searcher.fast_field_values(files.RANK, [address for _, address in hits])
        order = sorted(range(len(hits)), key=lambda i: (-hits[i][0], ranks[i]))
        return [hits[i] for i in order[:k]]

    def _is_in_id_order(self) -> bool:
        """Whether the only segment was written in one go: one that was merged has its parts in any order.

        In order, document ``i`` has rank ``i + 1``. Parts are never a small fraction, so samples find them out.
        """
        places = sorted({i * (self._passages - 1) // _ORDER_SAMPLES for i in range(_ORDER_SAMPLES + 1)})
        addresses = [tantivy.DocAddress(0, place) for place in places]
        ranks = self._searcher.fast_field_values(files.RANK, addresses)
        return [place + 1 for place in places] == list(ranks)

    def _load_passage(self, segment: int, document: int) -> Passage:
        stored = self._searcher.doc(tantivy.DocAddress(segment, document)).get_first(files.STORED)
        return files.unpack(bytes(stored))


def _open_tantivy(directory: Path) -> tantivy.Index:
    """Open without a watcher thread, and also where we may not write.

    tantivy opens its lock file for writing; where we may not, links in a scratch directory stand in for the index. Its
    files are mapped by the time it is open, so the links can go at once.
    """
    if os.access(directory / ".tantivy-meta.lock", os.W_OK):
        index = tantivy.Index.open(str(directory))
        index.config_reader("manual")
        return index
    with tempfile.TemporaryDirectory(prefix="at2po-index-") as links:
        for file in directory.iterdir():
            if not file.name.startswith(".tantivy"):
                (Path(links) / file.name).symlink_to(file)
        index = tantivy.Index.open(links)
        index.config_reader("manual")
        return index


def open_uri(uri: str) -> EmbeddedIndex:
    """Open ``embedded:DIR``; everything after the colon is the directory, taken literally."""
    directory = uri.split(":", 1)[1]
    if not directory:
        raise CorpusError("embedded: names no directory; write embedded:DIR")
    return EmbeddedIndex.open(directory)
