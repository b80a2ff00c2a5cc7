"""``at2po-agent index build | info | search | loads``: build, inspect and search an index, on disk or on a server."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2po_agent.errors import ConfigError
from at2po_agent.terminal import say

if TYPE_CHECKING:
    from search_backend.base import Passage, SearchBackend


def add_parser(commands: Any) -> None:
    """Add the command and its actions to the parser's subparsers."""
    index = commands.add_parser("index", help="build, describe or search an index of passages")
    actions = index.add_subparsers(required=True, metavar="ACTION")

    build = actions.add_parser("build", help="index passages; continues an interrupted load into Elasticsearch")
    build.add_argument("uri", metavar="URI", help="embedded:DIR, or elasticsearch://HOST[:PORT]/NAME")
    what = "passages: .jsonl or .tsv, also .gz or .zst; or a folder in BEIR's layout (corpus.jsonl)"
    build.add_argument("files", nargs="*", type=Path, metavar="FILE", help=what)
    build.add_argument("--benchmark", metavar="NAME", help="instead of files: contexts of a benchmark's questions")
    build.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="SPLIT",
        help="split of the benchmark; repeatable; default: all that are installed",
    )
    build.add_argument("--data-dir", type=Path, metavar="DIR", help="where the benchmark's files are")
    build.add_argument(
        "--analyzer",
        default="standard",
        choices=["standard", "english", "multilingual"],
        help="words as written (standard), stemmed, or without accents and with Chinese, Japanese, … in characters",
    )
    build.add_argument("--title-boost", type=int, default=3, metavar="N", help="how often the title counts (3)")
    build.add_argument("--shards", type=int, default=1, metavar="N", help="shards of an index on a server (1)")
    build.add_argument("--replicas", type=int, default=0, metavar="N", help="replicas of an index on a server (0)")
    build.add_argument("--memory-mb", type=int, default=512, metavar="MB", help="memory for sorting (512)")
    build.set_defaults(command=_build)

    info = actions.add_parser("info", help="print the manifest: passages, digests, analyzer, parameters")
    info.add_argument("uri", metavar="URI")
    info.set_defaults(command=_info)

    search = actions.add_parser("search", help="print the hits of queries")
    search.add_argument("uri", metavar="URI")
    search.add_argument("queries", nargs="+", metavar="QUERY")
    search.add_argument("-k", type=int, default=3, metavar="K", help="hits per query (3)")
    search.set_defaults(command=_search)

    loads = actions.add_parser("loads", help="list the loads of an index on a server; delete superseded ones")
    loads.add_argument("uri", metavar="URI", help="elasticsearch://HOST[:PORT]/NAME")
    loads.add_argument(
        "--remove-superseded", action="store_true", help="delete the loads that a newer one has replaced"
    )
    loads.set_defaults(command=_loads)


def _build(arguments: argparse.Namespace) -> int:
    read, meter = _Counted(_passages(arguments)), _Meter()
    with closing(_build_at(arguments, read, meter)) as backend:
        manifest, seconds = backend.manifest, time.perf_counter() - meter.started
    rate = manifest.passages / seconds
    say(f"{manifest.passages:,} passages in {seconds:,.1f} s ({rate:,.0f}/s)")
    if again := read.count - manifest.passages:
        say(f"left out: {again:,} duplicates, equal in id, title and text")
    if arguments.analyzer != "multilingual":
        for warning in read.warnings():
            say(f"warning: {warning}; build it with --analyzer multilingual to find them", error=True)
    say(f"corpus digest {manifest.corpus_digest}")
    return 0


class _Counted:
    """Passages, counted as they are read, and apart those with words that only the analyzer multilingual finds."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        self._passages = passages
        self.count = self._unspaced = self._accented = 0

    def __iter__(self) -> Iterator[Passage]:
        from search_backend.analysis import ACCENTED, UNSPACED

        for passage in self._passages:
            self.count += 1
            text = f"{passage.title}\n{passage.text}"
            if not text.isascii():
                self._unspaced += bool(UNSPACED.search(text))
                self._accented += bool(ACCENTED.search(text))
            yield passage

    def warnings(self) -> Iterator[str]:
        """A line for each kind of words that some passages have and other analyzers do not find."""
        of = f"of {self.count:,} passages have"
        if self._unspaced:
            yield (
                f"{self._unspaced:,} {of} Chinese, Japanese, Korean, Thai, Lao, Burmese or Khmer text, in which this "
                "index finds no single words"
            )
        if self._accented:
            yield f"{self._accented:,} {of} accented words (Beyoncé), which a search without accents misses"


class _Meter:
    """Says on stderr how far a build is, every second at most."""

    def __init__(self) -> None:
        self.started = self._said = time.perf_counter()
        self._phase, self._phase_started = "", self.started

    def __call__(self, phase: str, done: int) -> None:
        now = time.perf_counter()
        if phase != self._phase:
            self._phase, self._phase_started, self._said = phase, now, now
        elif now - self._said >= 1:
            self._said = now
            say(f"{phase}: {done:,} passages, {done / (now - self._phase_started):,.0f}/s", error=True, progress=True)


def _build_at(arguments: argparse.Namespace, passages: Iterable[Passage], report: Any) -> SearchBackend:
    common = {
        "analyzer": arguments.analyzer,
        "title_boost": arguments.title_boost,
        "memory_mb": arguments.memory_mb,
        "progress": report,
    }
    if arguments.uri.startswith("elasticsearch:"):
        from search_backend.elastic.load import load_index

        return load_index(arguments.uri, passages, shards=arguments.shards, replicas=arguments.replicas, **common)
    if not arguments.uri.startswith("embedded:") or arguments.uri == "embedded:":
        raise ConfigError(f"{arguments.uri}: an index is built at embedded:DIR or elasticsearch://HOST[:PORT]/NAME")
    from search_backend import EmbeddedIndex

    return EmbeddedIndex.build(arguments.uri.split(":", 1)[1], passages, **common)


def _passages(arguments: argparse.Namespace) -> Iterator[Passage]:
    """The passages asked for; files are looked at at once and read later."""
    if bool(arguments.files) == bool(arguments.benchmark):
        raise ConfigError("give passage files, or --benchmark NAME")
    if arguments.benchmark:
        return _contexts(arguments)
    from search_backend import read_passages

    readers = [read_passages(_beir(file)) for file in arguments.files]
    return (passage for reader in readers for passage in reader)


def _contexts(arguments: argparse.Namespace) -> Iterator[Passage]:
    """The contexts of a benchmark's questions."""
    from at2po_env.registration import BENCHMARKS, default_data_dir, load_benchmark, passages

    if arguments.benchmark not in BENCHMARKS:
        raise ConfigError(f"--benchmark {arguments.benchmark}: not one of {', '.join(sorted(BENCHMARKS))}")
    source = load_benchmark(arguments.benchmark)
    known, folder = source.splits, arguments.data_dir or default_data_dir()
    if wrong := [split for split in arguments.split if split not in known]:
        raise ConfigError(f"--split {wrong[0]}: {arguments.benchmark} has {', '.join(known)}")
    splits = arguments.split or source.available(folder.expanduser()) or known[:1]
    return passages(arguments.benchmark, splits, data_dir=folder)


def _beir(file: Path) -> Path:
    """The passage file of a BEIR folder; any other path as it is."""
    if not file.is_dir():
        return file
    inside = [file / f"corpus.jsonl{packed}" for packed in ("", ".gz", ".zst")]
    return next((path for path in inside if path.is_file()), inside[0])


def _info(arguments: argparse.Namespace) -> int:
    import search_backend

    with closing(search_backend.open(arguments.uri)) as backend:
        say(json.dumps({**backend.manifest.to_json(), "digest": backend.manifest.digest}, indent=2))
    return 0


def _search(arguments: argparse.Namespace) -> int:
    import search_backend

    with closing(search_backend.open(arguments.uri)) as backend:
        for query, hits in zip(arguments.queries, backend.search(arguments.queries, arguments.k), strict=True):
            say(f"{query}: {len(hits)} passages")
            for hit in hits:
                say(f"  {hit.score:8.3f}  {hit.passage.id}  {hit.passage.title}")
                say(f"            {' '.join(hit.passage.text.split())[:200]}")
    return 0


def _loads(arguments: argparse.Namespace) -> int:
    if not arguments.uri.startswith("elasticsearch:"):
        raise ConfigError(f"{arguments.uri}: loads are listed at elasticsearch://HOST[:PORT]/NAME")
    from search_backend.elastic.history import loaded, remove_superseded

    removed = remove_superseded(arguments.uri) if arguments.remove_superseded else []
    for one in removed:
        say(f"removed     {one.name}  {one.passages:,} passages")
    for one in loaded(arguments.uri):
        say(f"{one.state:10}  {one.name}  {one.passages:,} passages")
    return 0
