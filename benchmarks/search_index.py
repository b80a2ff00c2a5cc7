"""Build rate and query latency of the embedded index, with SQLite FTS5 (the naive way) beside it in one run.

    python benchmarks/search_index.py [--passages 100000]

Passages are generated before the clock starts: 60 words each from Zipf's law over 200,000 words, so that the most
common words are in nearly every passage.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from search_backend import EmbeddedIndex, Passage

VOCABULARY = 200_000
TITLE_BOOST = 3
K = 3


@dataclass
class Measured:
    """One engine's row: seconds, bytes, and how to ask it."""

    name: str
    build_s: float
    open_s: float
    size: int
    search: Callable[[str], object]


def generate(count: int, words: int, seed: int = 0) -> Iterator[Passage]:
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    for start in range(0, count, 1_000):
        ranks = 1 + np.searchsorted(cumulative, rng.random((1_000, words)) * cumulative[-1])
        for row, line in enumerate(ranks[: count - start], start):
            yield Passage(f"p{row}", f"Entity{row // 2}", f"Entity{row // 2} " + " ".join(f"w{rank}" for rank in line))


def make_queries(count: int, passages: int, seed: int = 1) -> dict[str, list[str]]:
    rng = np.random.default_rng(seed)
    rare = rng.integers(300, 20_000, size=(count, 2))
    common = rng.integers(1, 60, size=(count, 8))
    return {
        "entity + 2 rare words": [f"Entity{rng.integers(passages // 2)} w{a} w{b}" for a, b in rare],
        "8 common words": [" ".join(f"w{word}" for word in line) for line in common],
    }


def tree_size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def embedded(folder: Path, passages: Sequence[Passage]) -> tuple[Measured, EmbeddedIndex]:
    start = time.perf_counter()
    EmbeddedIndex.build(folder / "embedded", passages, title_boost=TITLE_BOOST).close()
    build_s = time.perf_counter() - start
    opening: list[float] = []
    for _ in range(5):
        start = time.perf_counter()
        index = EmbeddedIndex.open(folder / "embedded")
        opening.append(time.perf_counter() - start)
    size = tree_size(folder / "embedded")
    return Measured("embedded (tantivy)", build_s, min(opening), size, lambda query: index.search([query], K)), index


def sqlite_fts5(folder: Path, passages: Sequence[Passage]) -> Measured:
    file = folder / "fts5.sqlite"
    start = time.perf_counter()
    with sqlite3.connect(file) as database:
        database.execute("CREATE VIRTUAL TABLE passage USING fts5(id UNINDEXED, title, text)")
        database.executemany("INSERT INTO passage VALUES (?, ?, ?)", ((p.id, p.title, p.text) for p in passages))
    database.close()
    build_s = time.perf_counter() - start
    opening: list[float] = []
    for _ in range(5):
        start = time.perf_counter()
        reader = sqlite3.connect(file)
        reader.execute("SELECT id FROM passage LIMIT 1").fetchall()
        opening.append(time.perf_counter() - start)

    def search(query: str) -> object:
        terms = " OR ".join(f'"{word}"' for word in dict.fromkeys(query.split()))
        ranked = (
            "SELECT id, title, text, rank FROM passage WHERE passage MATCH ? AND rank MATCH ? ORDER BY rank LIMIT ?"
        )
        return reader.execute(ranked, (terms, f"bm25(0, {TITLE_BOOST}, 1)", K)).fetchall()

    return Measured("SQLite FTS5", build_s, min(opening), file.stat().st_size, search)


def latencies_ms(search: Callable[[str], object], queries: Sequence[str], limit_s: float = 20.0) -> tuple[float, float]:
    """Median and 95th percentile over the queries, of as many as the time allows."""
    search(queries[0])
    seconds: list[float] = []
    for query in queries:
        start = time.perf_counter()
        search(query)
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > limit_s:
            break
    median, high = np.percentile(seconds, [50, 95]) * 1_000
    return float(median), float(high)


def training_batch_ms(folder: Path) -> tuple[float, float]:
    """One call of the training loop: 256 short queries over 7,000 passages of 22 words; first call and best of ten."""
    index = EmbeddedIndex.build(folder / "training", generate(7_000, words=22))
    queries = [f"Entity{i * 13} w{1 + i % 11}" for i in range(256)]
    seconds: list[float] = []
    for _ in range(10):
        start = time.perf_counter()
        index.search(queries, K)
        seconds.append(time.perf_counter() - start)
    return seconds[0] * 1_000, min(seconds) * 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=500)
    arguments = parser.parse_args()
    count: int = arguments.passages
    queries = make_queries(arguments.queries, count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        passages = list(generate(count, words=60))
        tantivy, index = embedded(folder, passages)
        engines = [tantivy, sqlite_fts5(folder, passages)]
        machine = f"{os.cpu_count()} CPUs (load {os.getloadavg()[0]:.1f})"
        table = Table(title=f"{count:,} passages of 60 words, top-{K}, {machine}, one searching thread")
        for column in (
            "engine",
            "build s",
            "passages/s",
            "MB",
            "open ms",
            *(f"{kind}: p50 / p95 ms" for kind in queries),
        ):
            table.add_column(column, justify="left" if column == "engine" else "right")
        for engine in engines:
            figures = [latencies_ms(engine.search, asked) for asked in queries.values()]
            table.add_row(
                engine.name,
                f"{engine.build_s:.1f}",
                f"{count / engine.build_s:,.0f}",
                f"{engine.size / 1e6:.0f}",
                f"{engine.open_s * 1e3:.1f}",
                *(f"{median:.2f} / {high:.2f}" for median, high in figures),
            )
        console = Console(width=140)
        console.print(table)
        batch = next(iter(queries.values()))[:256]
        start = time.perf_counter()
        index.search(batch, K)
        console.print(f"embedded, one batch of {len(batch)}: {(time.perf_counter() - start) * 1e3:.1f} ms")
        first, best = training_batch_ms(folder)
        console.print(
            f"embedded, 7,000 passages of 22 words, one batch of 256: first {first:.1f} ms, best {best:.1f} ms"
        )


if __name__ == "__main__":
    main()
