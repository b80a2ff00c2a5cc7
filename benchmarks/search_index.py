r"""The same passages and queries through every search engine in one run: build, disk, memory, latency, throughput.

    python -m benchmarks.search_index                                        # 100,000 passages, no service needed
    AT2PO_ES_URL=http://127.0.0.1:9200 python -m benchmarks.search_index --passages 1000000 \
      --engines embedded elasticsearch bulk parallel-bulk bm25s fts5 --save search_1m
    AT2PO_ES_URL=… python -m benchmarks.search_index --passages 1000000 5000000 --engines embedded elasticsearch

Passages are generated into a file first. Every engine reads that file, and builds and searches in a process of its own,
which reports its memory. bm25s needs ``pip install bm25s numba``; Elasticsearch is the server at AT2PO_ES_URL.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from elasticsearch import Elasticsearch
from rich.console import Console
from rich.table import Table

from benchmarks import search_measure
from benchmarks.generated_corpus import CONTENT, generate, make_queries, write
from benchmarks.search_engines import ENGINES
from benchmarks.search_measure import K, Measured, memory_mb
from search_backend import EmbeddedIndex, read_passages

ON_SERVER = ("elasticsearch", "bulk", "parallel-bulk")
Result = TypeVar("Result")


def apart(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def settle() -> None:
    """Wait until the server has merged what was loaded: nobody else's work may be in a measurement."""
    with Elasticsearch(os.environ["AT2PO_ES_URL"]) as client:
        while client.indices.stats(metric="merge")["_all"]["total"]["merges"]["current"]:
            time.sleep(1)


def server_mb() -> str:
    """Memory of the server's process, which must be on this machine."""
    with Elasticsearch(os.environ["AT2PO_ES_URL"]) as client:
        (node,) = client.nodes.info(metric="process")["nodes"].values()
    own, mapped = (memory_mb(key, node["process"]["id"]) for key in ("RssAnon", "RssFile"))
    return f"Elasticsearch's server holds {own:,.0f} MB of its own and {mapped:,.0f} MB mapped"


def reading_s(file: Path) -> float:
    """Seconds to parse the passages and do nothing with them."""
    start = time.perf_counter()
    for _ in read_passages(file):
        pass
    return time.perf_counter() - start


def training_batch_ms() -> tuple[float, float]:
    """One call of the training loop: 256 short queries over 7,000 passages of 22 words; first call and best of ten."""
    with tempfile.TemporaryDirectory() as folder:
        index = EmbeddedIndex.build(Path(folder) / "training", generate(7_000, words=22))
        queries = make_queries(256, 7_000)[CONTENT]
        seconds: list[float] = []
        for _ in range(10):
            start = time.perf_counter()
            index.search(queries, K)
            seconds.append(time.perf_counter() - start)
    return seconds[0] * 1e3, min(seconds) * 1e3


def measure(count: int, names: Sequence[str], work: Path, console: Console) -> dict[str, Measured]:
    """Build all engines, then ask each."""
    file = work / f"passages-{count}.jsonl"
    if not file.exists():
        write(file, count)
    console.print(f"{file.stat().st_size / 1e6:,.0f} MB of JSON lines, read alone in {reading_s(file):.1f} s")
    engines: dict[str, Measured] = {}
    loads: list[str] = []
    for name in names:
        shutil.rmtree(work / name, ignore_errors=True)
        engines[name] = apart(search_measure.build, name, file, work / name)
        loads.append(f"{os.getloadavg()[0]:.1f}")
        if name in ON_SERVER:
            settle()
    console.print(build_table(count, engines), f"load average after each build: {', '.join(loads)}", sep="")
    for name in names:
        engines[name] = apart(search_measure.ask, name, work / name, count, engines[name])
        loads.append(f"{os.getloadavg()[0]:.1f}")
        if name == "elasticsearch":
            console.print(server_mb())
    for kind in make_queries(1, count):
        console.print(search_table(count, kind, engines))
    console.print(f"load average after each search: {', '.join(loads[len(names) :])}")
    return engines


def build_table(count: int, engines: Mapping[str, Measured]) -> Table:
    """What it takes to make an index."""
    table = Table(title=f"{count:,} passages: build", title_justify="left")
    for column in ("engine", "build s", "passages/s", "client's CPU s", "client's peak MB", "disk MB"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for name, one in engines.items():
        figures = (one.build_s, count / one.build_s, one.cpu_s, one.peak_mb, one.size / 1e6)
        table.add_row(name, *(f"{figure:,.1f}" if figure < 100 else f"{figure:,.0f}" for figure in figures))
    return table


def search_table(count: int, kind: str, engines: Mapping[str, Measured]) -> Table:
    """What it takes to ask it."""
    table = Table(title=f"{count:,} passages: top {K} of queries of {kind}", title_justify="left")
    columns = ["engine", "open ms", "own MB", "mapped MB", "p50 ms", "p95 ms", "1 thread/s", "2 threads/s", "batches/s"]
    for column in [*columns, "title first"] if kind == CONTENT else columns:
        table.add_column(column, justify="left" if column == "engine" else "right")
    for name, one in engines.items():
        cells = [f"{one.open_ms:,.1f}", f"{one.own_mb:,.0f}", f"{one.mapped_mb:,.0f}"]
        cells += [f"{figure:,.2f}" for figure in one.latency_ms[kind]]
        cells += [f"{figure:,.0f}" if figure >= 10 else f"{figure:.1f}" for figure in one.per_s[kind]]
        table.add_row(name, *cells, *([f"{one.found:.1%}"] if kind == CONTENT else []))
    return table


def goals(engines: Mapping[str, Measured]) -> Iterator[str]:
    """The goals that the engines of a run can tell about."""

    def verdict(what: str, ratio: float, goal: float) -> str:
        return f"{what} {ratio:.2f}, goal {goal:g}: {'met' if ratio >= goal else 'NOT met'}"

    for rival, goal in (("elasticsearch", 1.0), ("fts5", 10.0)):
        if "embedded" in engines and rival in engines:
            for kind, (theirs, _) in engines[rival].latency_ms.items():
                ours = engines["embedded"].latency_ms[kind][0]
                yield verdict(f"{kind}: p50 of {rival} over p50 of embedded:", theirs / ours, goal)
    rivals = [engines[name].build_s for name in ("bulk", "parallel-bulk") if name in engines]
    if "elasticsearch" in engines and rivals:
        yield verdict("load rate over the faster bulk helper's:", min(rivals) / engines["elasticsearch"].build_s, 0.9)


def growth(sizes: Mapping[int, Mapping[str, Measured]]) -> Iterator[str]:
    """How memory changes from the smallest to the largest corpus."""
    (small, first), (large, last) = min(sizes.items()), max(sizes.items())
    for name in first:
        yield (
            f"{name}, {small:,} to {large:,} passages: searching {first[name].own_mb:,.0f} to {last[name].own_mb:,.0f} "
            f"MB of its own and {first[name].mapped_mb:,.0f} to {last[name].mapped_mb:,.0f} MB mapped; "
            f"building {first[name].peak_mb:,.0f} to {last[name].peak_mb:,.0f} MB at the peak"
        )


def machine() -> str:
    """CPU, cores, memory, Python; no names."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return (
        f"{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores, "
        f"{int(memory[1]) / 2**20 if memory else 0:.0f} GiB, Python {platform.python_version()}"
    )


@contextmanager
def workshop(given: Path | None) -> Iterator[Path]:
    """A folder for corpora and indexes: the given one, which stays, or one that does not."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
    else:
        with tempfile.TemporaryDirectory(prefix="at2po-benchmark-") as folder:
            yield Path(folder)


def main() -> None:
    """Measure, print and, if asked to, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, nargs="+", default=[100_000])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["embedded", "fts5"])
    parser.add_argument("--work", type=Path, help="keep corpora and indexes here; a corpus that is there is used again")
    parser.add_argument("--save", help="name of the file in benchmarks/results")
    arguments = parser.parse_args()
    if "AT2PO_ES_URL" not in os.environ and (asked := [name for name in ON_SERVER if name in arguments.engines]):
        parser.error(f"{asked[0]} needs a server without security; set AT2PO_ES_URL to its URL")
    console = Console(width=130, record=True)
    console.print(machine())
    with workshop(arguments.work) as work:
        sizes = {count: measure(count, arguments.engines, work, console) for count in arguments.passages}
    for count, engines in sizes.items():
        for line in goals(engines):
            console.print(f"{count:,} passages, {line}")
    if len(sizes) > 1:
        console.print(*growth(sizes), sep="\n")
    if "embedded" in arguments.engines:
        first, best = training_batch_ms()
        console.print(f"embedded, 7,000 passages of 22 words, a batch of 256: first {first:.1f} ms, best {best:.1f} ms")
    if arguments.save:
        (Path(__file__).parent / "results" / f"{arguments.save}.txt").write_text(
            console.export_text(), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
