"""The analyzer that both engines share, so that they rank alike, and what else an index is built with."""

from __future__ import annotations

import tantivy

from search_backend.base import CorpusError

TITLE_BOOST = 3
"""How many times a title is counted beside its text, by default."""

MEMORY_MB = 512
"""Bound on the memory for building an index, by default."""

K1 = 1.2
B = 0.75
"""BM25's constants; tantivy compiles them in."""

MAX_QUERY_TERMS = 128
"""Distinct terms of a query that are searched, in order of appearance; the rest is ignored."""

MAX_TERM_BYTES = 255
"""Longer runs of letters and digits are neither indexed nor searched (Lucene's limit too)."""

ANALYZERS = ("standard", "english")


def make_analyzer(name: str) -> tantivy.TextAnalyzer:
    """Return the analyzer of that name: maximal runs of letters and digits, lower-cased; ``english`` stems them too.

    Raises:
        CorpusError: There is no such analyzer.
    """
    if name not in ANALYZERS:
        raise CorpusError(f"unknown analyzer {name!r}; known: {', '.join(ANALYZERS)}")
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    builder = builder.filter(tantivy.Filter.remove_long(MAX_TERM_BYTES + 1)).filter(tantivy.Filter.lowercase())
    if name == "english":
        builder = builder.filter(tantivy.Filter.stemmer("english"))
    return builder.build()


def check_options(analyzer: str, title_boost: int, memory_mb: int) -> None:
    """Refuse what no index can be built with, before anything is read.

    Raises:
        CorpusError: One of them is wrong; the message names it.
    """
    if isinstance(title_boost, bool) or not isinstance(title_boost, int) or not 1 <= title_boost <= 100:
        raise CorpusError(f"title_boost must be an integer from 1 to 100, not {title_boost!r}")
    if memory_mb < 32:
        raise CorpusError(f"memory_mb must be at least 32, not {memory_mb!r}")
    make_analyzer(analyzer)


def query_terms(analyzer: tantivy.TextAnalyzer, query: str) -> list[str]:
    """The distinct terms of a query, in order of appearance."""
    return list(dict.fromkeys(analyzer.analyze(query.encode("utf-8", "replace").decode())))
