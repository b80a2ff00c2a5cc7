r"""Searches with and without columns of common words, and bm25s beside them, over the same passages in one run.

    python -m benchmarks.common_words --passages 1000000 --work DIR --save common_words

Every query is asked in each way in turn, six times, each way first in two of them, and its least time counts: other
work of the machine delays all alike. Both ways of the embedded index must give the same hits, scores and order. Needs
``pip install bm25s numba``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import search_measure
from benchmarks.generated_corpus import ARTICLE, make_queries, title, word, write
from benchmarks.search_engines import ENGINES, tree_size
from benchmarks.search_index import apart, machine, workshop
from search_backend import EmbeddedIndex, read_passages
from search_backend.analysis import Analyzer
from search_backend.embedded import impacts

QUERIES = 200
REPEATS = 6
QUESTIONS = "questions"
Ways = Mapping[str, Callable[[str], object]]


@dataclass
class Built:
    """Seconds of a build and of its columns, both on the clock and of CPU; the peak of memory in MB."""

    seconds: float
    cpu_s: float
    columns_s: float
    columns_cpu_s: float
    peak_mb: float


def build(file: Path, folder: Path) -> Built:
    """Build the embedded index and tell its columns apart; for a process that does nothing else."""
    spent = [0.0, 0.0]
    add_columns = impacts.write

    def timed(directory: Path, analyzer: Analyzer, batch: int) -> None:
        start, cpu = time.perf_counter(), time.process_time()
        add_columns(directory, analyzer, batch)
        spent[:] = time.perf_counter() - start, time.process_time() - cpu

    impacts.write = timed
    start, cpu = time.perf_counter(), time.process_time()
    EmbeddedIndex.build(folder, read_passages(file)).close()
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    return Built(seconds, cpu_s, spent[0], spent[1], search_measure.memory_mb("VmHWM"))


def queries(passages: int) -> dict[str, list[str]]:
    """The queries of ``search_index``, and questions: a title, two content words and five of the 20 most common."""
    rng = np.random.default_rng(2)
    questions = [
        " ".join([title(article), *map(word, rng.integers(300, 20_000, 2)), *map(word, rng.integers(0, 20, 5))])
        for article in rng.integers(0, -(-passages // ARTICLE), QUERIES)
    ]
    return make_queries(QUERIES, passages) | {QUESTIONS: questions}


def ways(work: Path, k: int) -> Ways:
    """The ways to answer a query."""
    index = EmbeddedIndex.open(work / "index")
    bm25s = ENGINES["bm25s"]().open(work / "bm25s", k)
    worthwhile = impacts.WORTHWHILE

    def without(query: str) -> object:
        impacts.WORTHWHILE = sys.maxsize
        try:
            return index.search([query], k)
        finally:
            impacts.WORTHWHILE = worthwhile

    return {
        "embedded, no columns": without,
        "embedded": lambda query: index.search([query], k),
        "bm25s": lambda query: bm25s([query]),
    }


def least_ms(asked: Ways, lines: Sequence[str]) -> dict[str, list[float]]:
    """The least time of each query in each way."""
    best = {name: [float("inf")] * len(lines) for name in asked}
    for i, query in enumerate(lines):
        for turn in range(REPEATS):
            answers: dict[str, object] = {}
            first = turn % len(asked)
            for name, ask in [*asked.items()][first:] + [*asked.items()][:first]:
                start = time.perf_counter()
                answers[name] = ask(query)
                best[name][i] = min(best[name][i], (time.perf_counter() - start) * 1e3)
        if answers["embedded"] != answers["embedded, no columns"]:
            raise SystemExit(f"columns change the answer to {query!r}")
    return best


def main() -> None:
    """Build what is not there, measure, print and, if asked to, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=impacts.FROM)
    parser.add_argument("--work", type=Path, help="keep what is built here; passages and bm25s are used again")
    parser.add_argument("--save", help="name of the file in benchmarks/results")
    arguments = parser.parse_args()
    console = Console(width=130, record=True)
    console.print(f"{machine()}; nice {os.nice(0)}")
    with workshop(arguments.work) as work:
        file = work / f"passages-{arguments.passages}.jsonl"
        if not file.exists():
            write(file, arguments.passages)
        shutil.rmtree(work / "index", ignore_errors=True)
        built = apart(build, file, work / "index")
        if not (work / "bm25s").exists():
            apart(search_measure.build, "bm25s", file, work / "bm25s")
        columns = sum(path.stat().st_size for path in (work / "index").glob("impact*"))
        console.print(
            f"{arguments.passages:,} passages built in {built.seconds:.1f} s ({built.cpu_s:.1f} s of CPU), "
            f"columns {built.columns_s:.1f} s ({built.columns_cpu_s:.1f} s) of it; peak {built.peak_mb:,.0f} MB; "
            f"{tree_size(work / 'index') / 1e6:,.0f} MB on disk, columns {columns / 1e6:,.0f} MB of it"
        )
        table = Table(title=f"least of {REPEATS} times of each query, in ms", title_justify="left")
        for column in ("queries", "k", "engine", "p50", "p95", "p50 of no columns over it"):
            table.add_column(column, justify="left" if column in ("queries", "engine") else "right")
        for k in (3, 10):
            asked = ways(work, k)
            for kind, lines in queries(arguments.passages).items():
                times = least_ms(asked, lines)
                plain = float(np.median(times["embedded, no columns"]))
                for name, each in times.items():
                    middle, high = np.percentile(each, [50, 95])
                    table.add_row(kind, str(k), name, f"{middle:.2f}", f"{high:.2f}", f"{plain / middle:.2f}")
        console.print(table, f"load average {os.getloadavg()[0]:.1f}", sep="")
    if arguments.save:
        results = Path(__file__).parent / "results" / f"{arguments.save}.txt"
        results.write_text(console.export_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
