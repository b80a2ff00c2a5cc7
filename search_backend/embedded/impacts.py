"""The scores of common words, as columns beside tantivy's postings: most passages are ruled out without being scored.

The engine scores every passage that has a word of the query, at 5 ns a posting, and words like "the" are in nearly all.
Maxima of blocks of postings rule out little, because any hundred passages have every common word often. So each word in
a tenth of the passages or more has a column with its score in every passage, in small steps and rounded up. The columns
of a query add up fast to bounds of the scores, and only the few passages that can be among the best ``k`` by them are
scored. Each code stands for one of the engine's scores, so that hits, scores and order are the engine's, bit for bit.
"""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path

import numpy as np
import tantivy
from numpy.typing import NDArray

from search_backend.analysis import K1, Analyzer
from search_backend.embedded import files
from search_backend.outside import read_file, read_json

FROM = 300_000
"""Passages from which on an index has columns; of fewer the engine scores any query in about 3 ms."""

SHARE = 0.1
"""Share of the passages that have a word, from which on the word has a column."""

WORTHWHILE = 200_000
"""Postings of a query's common words from which on columns are faster than the engine, about 1 ms."""

MOST_HITS = 20
"""Hits of a query up to which columns are used."""

CHUNK = 1 << 18
"""Passages whose bounds are in memory at a time."""

RARE_HITS = 1_000
"""Passages that the engine finds for the words without a column."""

POSTING_BYTES = 250
"""Memory that a posting takes while its column is written, about: it is a Python object for a moment."""

_WORDS, _COLUMNS, _SCORES = "impacts.json", "impacts.npy", "impact-scores.npy"
# Codes of a score, so few that 15 of them add up to 16 bits.
_CODES = 4_369
_MOST_COLUMNS = 65_535 // _CODES
_SAMPLES = 300
_MOST_EXPLAINED = 64
# Relative; 128 scores of 32 bits lose less when they are added in another order.
_ROUNDING = 1e-5

_Places = NDArray[np.int64]
_Floats = NDArray[np.float64]


def write(directory: Path, analyzer: Analyzer, batch: int) -> None:
    """Add columns to an index whose segments are final, if it has common words.

    Args:
        directory: The index, before its manifest is written.
        analyzer: The one of the index.
        batch: Postings in memory at a time, ``POSTING_BYTES`` each.
    """
    index = tantivy.Index.open(str(directory))
    searcher = index.searcher()
    # The engine's segments, in its order: the passages of a column are theirs, one after the other.
    segments = read_json(read_file(directory / files.TANTIVY_META))["segments"]
    starts = np.cumsum([0, *(segment["max_doc"] for segment in segments)])
    postings = _common_words(searcher, starts, analyzer)
    if not postings:
        return
    step = (K1 + 1) * math.log(1 + 1 / SHARE) / (_CODES * 0.95)
    table = np.zeros((len(postings), _CODES), np.float32)
    passages = int(starts[-1])
    rows: dict[str, int] = {}
    # Written and not mapped: a full disk is an error here, and a signal that ends the process there.
    with (directory / _COLUMNS).open("wb") as file, _no_garbage_collection():
        header = {"descr": "<u2", "fortran_order": False, "shape": (len(postings), passages)}
        np.lib.format.write_array_header_1_0(file, header)
        for row, word in enumerate(postings):
            column = np.zeros(passages, "<u2")
            query = tantivy.Query.term_query(index.schema, files.CONTENT, word, "freq")
            parts = _parts(index.schema, query, passages, batch)
            if all(_fill(column, table[row], step, *_hits(searcher, part, batch, starts)) for part in parts):
                rows[word] = row
            file.write(column.data)
    np.save(directory / _SCORES, table)
    content = {"rows": rows, "postings": postings, "step": step, "starts": starts.tolist()}
    (directory / _WORDS).write_text(json.dumps(content), encoding="utf-8")


def _common_words(searcher: tantivy.Searcher, starts: _Places, analyzer: Analyzer) -> dict[str, int]:
    """Every common word and in how many passages it is; a few hundred passages have them all."""
    seen: set[str] = set()
    for address in _addresses(np.linspace(0, starts[-1] - 1, _SAMPLES).astype(np.int64), starts):
        passage = files.unpack(bytes(searcher.doc(address).get_first(files.STORED)))
        seen.update(analyzer.terms(f"{passage.title}\n{passage.text}"))
    counts = {word: searcher.doc_freq(files.CONTENT, word) for word in sorted(seen)}
    return {word: count for word, count in counts.items() if count >= SHARE * starts[-1]}


def _parts(schema: tantivy.Schema, query: tantivy.Query, passages: int, batch: int) -> Iterator[tantivy.Query]:
    """Queries that find at most ``batch`` passages each and together what ``query`` does, with the same scores."""
    if passages <= batch:
        yield query
        return
    for start in range(0, passages, batch):
        ranks = tantivy.Query.range_query(
            schema, files.RANK, tantivy.FieldType.Unsigned, start + 1, min(start + batch, passages)
        )
        within = tantivy.Query.const_score_query(ranks, 0.0)
        yield tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (tantivy.Occur.Must, within)])


def _fill(
    column: NDArray[np.uint16], table: NDArray[np.float32], step: float, places: _Places, scores: NDArray[np.float32]
) -> bool:
    """Enter a word's scores, which come best first; False if there are more different ones than codes.

    The code of a score is the first from ``score / step`` on that no other score has.
    """
    edges = np.flatnonzero(np.diff(scores, prepend=np.float32(np.inf)))
    distinct = scores[edges]
    codes = np.ceil(distinct / step).astype(np.int64)
    for i, score in enumerate(distinct):
        while codes[i] < _CODES and table[codes[i]] not in (0, score):
            codes[i] += 1
        if codes[i] == _CODES:
            return False
        table[codes[i]] = score
    column[places] = np.repeat(codes, np.diff(edges, append=len(scores)))
    return True


def _hits(
    searcher: tantivy.Searcher, query: tantivy.Query, most: int, starts: _Places
) -> tuple[_Places, NDArray[np.float32]]:
    """The places of the best ``most`` hits and their scores, best first."""
    hits = searcher.search(query, most, count=False).hits
    scores, addresses = zip(*hits, strict=True) if hits else ((), ())
    segments = np.fromiter(map(attrgetter("segment_ord"), addresses), np.int64, len(hits))
    documents = np.fromiter(map(attrgetter("doc"), addresses), np.int64, len(hits))
    return starts[segments] + documents, np.array(scores, np.float32)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Hits by the million make no garbage that is not counted, but Python would look for it all the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _addresses(places: _Places, starts: _Places) -> list[tantivy.DocAddress]:
    segments = np.searchsorted(starts, places, side="right") - 1
    documents = places - starts[segments]
    return [tantivy.DocAddress(*address) for address in zip(segments.tolist(), documents.tolist(), strict=True)]


def open_columns(directory: Path, searcher: tantivy.Searcher, schema: tantivy.Schema) -> Impacts | None:
    """The columns of an open index, if it has some."""
    return Impacts(directory, searcher, schema) if (directory / _WORDS).is_file() else None


class Impacts:
    """The columns of an open index; they are mapped into memory."""

    def __init__(self, directory: Path, searcher: tantivy.Searcher, schema: tantivy.Schema) -> None:
        content = read_json(read_file(directory / _WORDS))
        self._rows: dict[str, int] = content["rows"]
        self._postings: dict[str, int] = content["postings"]
        self._step: float = content["step"]
        self._starts = np.array(content["starts"], np.int64)
        self._table = np.load(directory / _SCORES)
        self._columns = np.load(directory / _COLUMNS, mmap_mode="r").view(np.ndarray)
        self._searcher, self._schema = searcher, schema

    def best(self, words: Sequence[str], k: int) -> list[tuple[float, tantivy.DocAddress]] | None:
        """The best ``k`` passages for distinct words by score, then id.

        None where the engine is faster: many hits, few postings of common words, or bounds that rule out too little.
        """
        common = [word for word in words if word in self._rows]
        rare = [self._term(word) for word in words if word not in self._rows]
        spared = sum(self._postings[word] for word in common)
        if k > MOST_HITS or spared < WORTHWHILE or not 0 < len(common) <= _MOST_COLUMNS:
            return None
        finalists = self._finalists([self._rows[word] for word in common], k, *self._rare(rare, RARE_HITS))
        return None if rare and len(finalists) > _MOST_EXPLAINED else self._ranked(finalists, words, k)

    def _term(self, word: str) -> tantivy.Query:
        return tantivy.Query.term_query(self._schema, files.CONTENT, word, "freq")

    def _rare(self, rare: Sequence[tantivy.Query], most: int) -> tuple[_Places, _Floats, float]:
        """The best passages for the words without a column, their scores, and the most that any other can score."""
        if not rare:
            return np.empty(0, np.int64), np.empty(0), 0.0
        query = tantivy.Query.boolean_query([(tantivy.Occur.Should, word) for word in rare])
        places, scores = _hits(self._searcher, query, most, self._starts)
        return places, scores.astype(np.float64), float(scores[-1]) if len(scores) == most else 0.0

    def _finalists(self, rows: Sequence[int], k: int, places: _Places, scores: _Floats, rest: float) -> _Places:
        """Every passage that may be among the best ``k``, and few others.

        Args:
            rows: The columns.
            k: How many are the best.
            places: The best passages for the query's other words.
            scores: Their scores for these words.
            rest: The most that any other passage scores for these words.
        """
        first, lower = places, scores + self._sums(rows, places)
        upper = lower
        start, passages = 0, int(self._starts[-1])
        while True:
            least = _at_least(lower, k)
            kept = upper >= least
            places, upper, lower = places[kept], upper[kept], lower[kept]
            # If there is a rest, each must be explained; too many will not be.
            if start == passages or (rest and len(places) > _MOST_EXPLAINED):
                return places
            # A few passages first tell what the best scores are about.
            stop = min(passages, start + (CHUNK if start else CHUNK // 16))
            bounds = self._columns[rows[0], start:stop].copy()
            for row in rows[1:]:
                bounds += self._columns[row, start:stop]
            new = np.flatnonzero(bounds >= max(0 if rest else 1, math.ceil((least - rest) / self._step))) + start
            new = new[~np.isin(new, first)] if len(first) else new
            sums = self._sums(rows, new)
            places, lower = np.concatenate([places, new]), np.concatenate([lower, sums])
            upper = np.concatenate([upper, sums + rest])
            start = stop

    def _sums(self, rows: Sequence[int], places: _Places) -> _Floats:
        sums = np.zeros(len(places))
        for row in rows:
            sums += self._table[row, self._columns[row, places]]
        return sums

    def _ranked(self, places: _Places, words: Sequence[str], k: int) -> list[tuple[float, tantivy.DocAddress]]:
        """The best ``k`` of some places by the engine's scores, which add up in the order of words, then by id."""
        addresses = _addresses(places, self._starts)
        scores = np.zeros(len(places), np.float32)
        for word in words:
            row = self._rows.get(word)
            if row is None:
                scores += self._explained(self._term(word), addresses)
            else:
                scores += self._table[row, self._columns[row, places]]
        ranks = self._searcher.fast_field_values(files.RANK, addresses)
        order = np.lexsort((ranks, -scores))[:k].tolist()
        # A finalist may turn out to have none of the words.
        return [(float(scores[i]), addresses[i]) for i in order if scores[i] > 0]

    def _explained(self, word: tantivy.Query, addresses: Sequence[tantivy.DocAddress]) -> NDArray[np.float32]:
        scores = np.zeros(len(addresses), np.float32)
        for i, address in enumerate(addresses):
            # It raises where the passage does not have the word.
            with suppress(ValueError):
                scores[i] = json.loads(word.explain(self._searcher, address).to_json())["value"]
        return scores


def _at_least(scores: _Floats, k: int) -> float:
    """Scores below this are not among the best ``k``, whatever was lost in rounding."""
    return float(np.partition(scores, -k)[-k]) * (1 - _ROUNDING) if len(scores) >= k else 0.0
