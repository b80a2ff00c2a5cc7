"""Measure one search engine: what building, opening and asking it takes, in time and memory."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.generated_corpus import ARTICLE, CONTENT, make_queries
from benchmarks.search_engines import ENGINES, Search

K = 3
QUERIES = 500
LIMIT_S = 20.0  # of one measurement of a slow engine
BATCH = 64


@dataclass
class Measured:
    """One engine over one corpus. Memory is of the process that builds or searches; a server's is not in it."""

    build_s: float
    cpu_s: float
    peak_mb: float  # while it builds
    size: int = 0  # bytes on disk
    open_ms: float = 0.0
    own_mb: float = 0.0  # after all searches: memory that nothing else can have
    mapped_mb: float = 0.0  # and pages of files, which the system takes back when it needs them
    latency_ms: dict[str, tuple[float, float]] = field(default_factory=dict)  # query kind: median, 95th percentile
    per_s: dict[str, tuple[float, ...]] = field(default_factory=dict)  # query kind: one thread, two threads, batches
    found: float = 0.0  # share of queries with a title that find a passage under it first


def memory_mb(key: str, process: int | str = "self") -> float:
    """A line of ``/proc/…/status`` in MB: VmHWM (peak), RssAnon (its own) or RssFile (mapped files)."""
    line = re.search(rf"{key}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(line[1]) * 1024 / 1e6 if line else 0.0


def build(name: str, file: Path, folder: Path) -> Measured:
    """Build an index; for a process that does nothing else."""
    engine = ENGINES[name]()
    folder.mkdir()
    start, cpu = time.perf_counter(), time.process_time()
    engine.build(file, folder)
    measured = Measured(time.perf_counter() - start, time.process_time() - cpu, memory_mb("VmHWM"))
    measured.size = engine.size(folder)
    return measured


def ask(name: str, folder: Path, count: int, measured: Measured) -> Measured:
    """Search an index; for a process that does nothing else. Other queries warm it first."""
    engine = ENGINES[name]()
    start = time.perf_counter()
    search = engine.open(folder, K)
    measured.open_ms = (time.perf_counter() - start) * 1e3
    for warming in make_queries(QUERIES // 2, count, seed=2).values():
        latencies_ms(search, warming)
    for kind, queries in make_queries(QUERIES, count).items():
        measured.latency_ms[kind] = latencies_ms(search, queries)
        measured.per_s[kind] = (*(threads_per_s(search, queries, n) for n in (1, 2)), batches_per_s(search, queries))
        if kind == CONTENT:
            firsts = (hits[0] if hits else "-1" for hits in search(queries))
            asked = (int(query.split()[1][1:]) for query in queries)
            measured.found = float(
                np.mean([int(first) // ARTICLE == q for first, q in zip(firsts, asked, strict=True)])
            )
    measured.own_mb, measured.mapped_mb = memory_mb("RssAnon"), memory_mb("RssFile")
    return measured


def latencies_ms(search: Search, queries: Sequence[str]) -> tuple[float, float]:
    """Median and 95th percentile of queries one at a time, of as many as the time allows."""
    seconds: list[float] = []
    for query in queries:
        start = time.perf_counter()
        search([query])
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > LIMIT_S:
            break
    median, high = np.percentile(seconds, [50, 95]) * 1e3
    return float(median), float(high)


def threads_per_s(search: Search, queries: Sequence[str], threads: int) -> float:
    """Queries a second, one query at a time in each thread."""
    end = time.perf_counter() + LIMIT_S / 4

    def work(part: Sequence[str]) -> int:
        for done, query in enumerate(part, 1):
            search([query])
            if time.perf_counter() > end:
                return done
        return len(part)

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(work, [queries[i::threads] for i in range(threads)]))
    return done / (time.perf_counter() - start)


def batches_per_s(search: Search, queries: Sequence[str]) -> float:
    """Queries a second in batches of 64, as a rollout asks."""
    start, done = time.perf_counter(), 0
    while done < len(queries) and time.perf_counter() - start < LIMIT_S / 4:
        done += len(search(queries[done : done + BATCH]))
    return done / (time.perf_counter() - start)
