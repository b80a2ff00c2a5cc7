"""How fast passages go into Elasticsearch, beside the client's own bulk helpers, and what memory that takes.

    AT2PO_ES_URL=http://127.0.0.1:9200 python -m benchmarks.elastic_load FILE…

Equal footing: every way sends the same documents (terms included) in requests of the same size into an index with the
same mapping and settings. The helpers are given the documents ready-made, in a file that they only parse; ours starts
from the passages, which it checks, sorts, digests and turns into terms on the way. Every way runs twice, in the order
there and back, each time in a process of its own, and the better time counts. Run it on a warm server: its first
minute is slower.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from elasticsearch import Elasticsearch, helpers

from search_backend import read_passages
from search_backend.analysis import K1, TITLE_BOOST, Analyzer, B
from search_backend.base import Manifest
from search_backend.elastic.layout import document, mappings, settings
from search_backend.elastic.load import CHUNK_BYTES, CHUNK_DOCUMENTS, THREADS, load_index

NAME = "at2po-benchmark-load"
HELPERS = ("bulk", "parallel_bulk")
SHARES = (0.1, 0.5, 1.0)


def prepare(files: list[Path], folder: Path) -> int:
    """Write the passages, each id once, and the documents that are made of them; return how many there are."""
    passages = {passage.id: passage for file in files for passage in read_passages(file)}
    analyzer = Analyzer("standard")
    with (folder / "passages.jsonl").open("w") as plain, (folder / "documents.jsonl").open("w") as made:
        for rank, id_ in enumerate(sorted(passages), 1):
            one = passages[id_]
            plain.write(json.dumps({"id": one.id, "title": one.title, "text": one.text}) + "\n")
            made.write(json.dumps(document(one, rank, analyzer, TITLE_BOOST)) + "\n")
    return len(passages)


def ours(host: str, folder: Path, reached: Callable[[int], None]) -> None:
    """As ``at2po-agent index build`` does it."""
    passages = read_passages(folder / "passages.jsonl")

    def progress(phase: str, done: int) -> None:
        if phase == "indexing":
            reached(done)

    load_index(f"elasticsearch://{host}/{NAME}", passages, memory_mb=64, progress=progress).close()


def raw(host: str, folder: Path, reached: Callable[[int], None], way: str) -> None:
    """As the client's documentation does it."""

    def actions() -> Iterator[dict[str, Any]]:
        with (folder / "documents.jsonl").open() as stream:
            for rank, line in enumerate(stream, 1):
                reached(rank)
                yield {"_op_type": "create", "_id": str(rank), "_source": json.loads(line)}

    manifest = Manifest("elasticsearch", "0", 0, "standard", {"k1": K1, "b": B, "shards": 1})
    with Elasticsearch(f"http://{host}", request_timeout=60) as client:
        client.indices.create(
            index=NAME,
            mappings=mappings(manifest, complete=False),
            settings=settings(manifest, replicas=0),
        )
        options: dict[str, Any] = {
            "chunk_size": CHUNK_DOCUMENTS,
            "max_chunk_bytes": CHUNK_BYTES,
        }
        if way == "bulk":
            deque(helpers.streaming_bulk(client, actions(), index=NAME, **options), maxlen=0)  # helpers.bulk counts it
        else:
            options |= {"thread_count": THREADS, "queue_size": THREADS}
            deque(helpers.parallel_bulk(client, actions(), index=NAME, **options), maxlen=0)
        client.indices.refresh(index=NAME)


def measure(way: str, host: str, folder: Path, count: int, results: Any) -> None:
    """One load in a fresh process: seconds, and resident megabytes when the shares were handed over."""
    with Elasticsearch(f"http://{host}", request_timeout=60) as client:
        for index in client.indices.get(index=f"{NAME}*"):
            client.indices.delete(index=index)
    left, resident = [share * count for share in SHARES], list[float]()

    def reached(done: int) -> None:
        while left and done >= left[0]:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            left.pop(0)

    started = time.perf_counter()
    if way == "at2po":
        ours(host, folder, reached)
    else:
        raw(host, folder, reached, way)
    seconds = time.perf_counter() - started
    reached(count)  # ours reports every 10,000 passages
    results.put((seconds, resident))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+", type=Path, help="passages, as at2po-agent index build reads them")
    files = parser.parse_args().files
    host = os.environ["AT2PO_ES_URL"].split("://")[-1].rstrip("/")
    context = multiprocessing.get_context("spawn")
    seconds: dict[str, float] = {}
    memory: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        count = prepare(files, Path(scratch))
        ways = ("at2po", *HELPERS)
        for way in (*ways, *reversed(ways)):
            results = context.Queue()
            process = context.Process(target=measure, args=(way, host, Path(scratch), count, results))
            process.start()
            taken, memory[way] = results.get()
            process.join()
            seconds[way] = min(taken, seconds.get(way, taken))
    print(f"{count:,} passages on {os.cpu_count()} cores, better of two; resident MB at 10, 50 and 100 %")
    for way, best in seconds.items():
        used = " ".join(f"{one:6,.0f}" for one in memory[way])
        print(f"{way:14} {best:7.1f} s {count / best:8,.0f} passages/s   {used}")
    for way in HELPERS:
        goal = " (goal: 0.90)" if way == "bulk" else ""
        print(f"at2po's rate over {way}'s: {seconds[way] / seconds['at2po']:.2f}{goal}")


if __name__ == "__main__":
    main()
