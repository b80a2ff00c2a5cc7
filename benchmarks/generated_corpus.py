"""A corpus and queries of any size: words by Zipf's law, lengths and articles as in Wikipedia's 100-word passages.

An article has six passages under one title; all but the last have 100 words, as in DPR's ``psgs_w100.tsv`` and
Search-R1's ``wiki-18.jsonl``. The most common word is 7 % of all words and in nearly every passage, as "the" is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from search_backend import Passage

VOCABULARY = 1_000_000
WORDS = 100
ARTICLE = 6
CONTENT, COMMON = "content words", "common words"
_BLOCK = 6_000
_SYLLABLES = [first + vowel for first in "bdfghjklmnprstvwxyzc" for vowel in "aeiou"]


def word(rank: int) -> str:
    """The word of that rank (0 is the most common): 3, 5 or 7 letters, 4.7 on average over a text."""
    letters = _SYLLABLES[rank % 100]
    while rank := rank // 100:
        letters += _SYLLABLES[rank % 100]
    return letters + "n"


def title(article: int) -> str:
    """The title of an article: two words that occur together nowhere else, one of them nowhere else at all."""
    return f"{word(article * 7919 % VOCABULARY).capitalize()} Q{article}"


def generate(count: int, words: int = WORDS, seed: int = 0) -> Iterator[Passage]:
    """Stream ``count`` passages of at most ``words`` words; the first ``n`` are the same whatever ``count`` is."""
    rng = np.random.default_rng(seed)
    vocabulary = np.array([word(rank) for rank in range(VOCABULARY)], dtype=object)
    cumulative = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    for start in range(0, count, _BLOCK):
        lengths = rng.integers(1, words + 1, _BLOCK)
        lengths[np.arange(_BLOCK) % ARTICLE < ARTICLE - 1] = words
        ranks = np.searchsorted(cumulative, rng.random((_BLOCK, words)) * cumulative[-1])
        for number, (line, length) in enumerate(zip(vocabulary[ranks[: count - start]], lengths, strict=False), start):
            yield Passage(str(number), title(number // ARTICLE), " ".join(line[:length]))


def write(path: Path, count: int) -> None:
    """Write the passages as JSON lines, the way corpora come."""
    with path.open("w", encoding="utf-8") as stream:
        for passage in generate(count):
            stream.write(json.dumps({"id": passage.id, "title": passage.title, "text": passage.text}) + "\n")


def make_queries(count: int, passages: int, seed: int = 1) -> dict[str, list[str]]:
    """Two kinds of queries: what a searcher asks (a title and two content words), and the worst case."""
    rng = np.random.default_rng(seed)
    articles = rng.integers(0, -(-passages // ARTICLE), count)
    content = rng.integers(300, 20_000, size=(count, 2))
    common = rng.integers(0, 60, size=(count, 8))
    return {
        CONTENT: [f"{title(article)} {word(a)} {word(b)}" for article, (a, b) in zip(articles, content, strict=True)],
        COMMON: [" ".join(map(word, line)) for line in common],
    }
