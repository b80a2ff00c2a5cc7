"""The benchmarks and task families as Gymnasium ids, and what is known about each without loading it."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import platformdirs
from gymnasium.vector import SyncVectorEnv

import search_backend
from at2po_env.dataset import Benchmark, Dataset
from at2po_env.rules import Rules
from at2po_env.search_qa import SearchQAEnv
from at2po_env.tasks import TaskEnv
from search_backend.base import Passage, SearchBackend


@dataclass(frozen=True)
class BenchmarkEntry:
    """One benchmark: its Gymnasium id, its module in ``envs``, the groups it is reported in, and other defaults.

    ``official`` is the number of questions in the split that papers report (HotpotQA, 2WikiMultiHopQA and MuSiQue: dev;
    the others: test), 0 where there is none.
    """

    id: str
    module: str
    groups: tuple[str, ...]
    official: int = 0
    defaults: Mapping[str, Any] = field(default_factory=dict)


GENERATED = "generated"
"""The group of worlds to train in, which no other group brings in and which need no data."""

BENCHMARKS: Mapping[str, BenchmarkEntry] = {
    "hotpotqa": BenchmarkEntry("AT2PO-HotpotQA-v0", "hotpotqa", ("multi-hop",), 7405),
    "2wikimultihopqa": BenchmarkEntry("AT2PO-2WikiMultiHopQA-v0", "twowiki", ("multi-hop",), 12576),
    "musique": BenchmarkEntry("AT2PO-MuSiQue-v0", "musique", ("multi-hop",), 2417),
    "bamboogle": BenchmarkEntry("AT2PO-Bamboogle-v0", "bamboogle", ("multi-hop",), 125),
    "nq": BenchmarkEntry("AT2PO-NQ-v0", "nq", ("single-hop",), 3610),
    "triviaqa": BenchmarkEntry("AT2PO-TriviaQA-v0", "triviaqa", ("single-hop",), 11313),
    "popqa": BenchmarkEntry("AT2PO-PopQA-v0", "popqa", ("single-hop",), 14267),
    "microwiki": BenchmarkEntry("AT2PO-MicroWiki-v0", "microwiki", ("multi-hop", GENERATED)),
}

TASK_FAMILIES: Mapping[str, str] = {"AT2PO-Maze-v0": "maze:MazeEnv", "AT2PO-MicroSQL-v0": "microsql:make"}
"""Tasks that are no search: their Gymnasium ids, and what makes them in ``envs``."""

_OF_RULES = {*inspect.signature(Rules).parameters, *inspect.signature(Rules.of).parameters} - {"limits", "origins"}
_OF_ENV = {"order", "copies", "render_mode"}


def load_benchmark(name: str) -> Benchmark:
    """Import a benchmark's module.

    Raises:
        ValueError: there is no benchmark of this name.
        ImportError: another package called ``envs`` hides ours; the message names its file.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"unknown benchmark {name!r}: one of {sorted(BENCHMARKS)}")
    benchmark: Benchmark = _module_of_envs(BENCHMARKS[name].module).BENCHMARK
    return benchmark


def _module_of_envs(name: str) -> ModuleType:
    package = importlib.import_module("envs")
    if getattr(package, "AT2PO_BENCHMARKS", None) is None:
        hiding = package.__file__ or ", ".join(package.__path__)
        raise ImportError(f"{hiding} hides the package `envs` of at2po: rename it, or take it off sys.path")
    return importlib.import_module(f"envs.{name}")


def default_data_dir() -> Path:
    """The folder of benchmark data: ``$AT2PO_DATA``, else the user's data directory. It may not exist."""
    chosen = os.environ.get("AT2PO_DATA")
    return Path(chosen).expanduser() if chosen else platformdirs.user_data_path("at2po", appauthor=False)


def passages(
    benchmark: str, splits: Sequence[str], *, data_dir: str | Path | None = None, **options: Any
) -> Iterator[Passage]:
    """Stream the passages that come with the questions of some splits, each (title, text) once over all of them.

    For HotpotQA, 2WikiMultiHopQA and MuSiQue these are their paragraphs, a corpus for any index:
    ``EmbeddedIndex.build(folder, passages("musique", ["train", "dev"]))``.

    Raises:
        DataNotFound: a split is not installed, or its records have no passages.
        DataError: a record is bad.
        ValueError: there is no such benchmark or split.
    """
    source = load_benchmark(benchmark)
    folder = default_data_dir() if data_dir is None else Path(data_dir).expanduser()
    seen: set[bytes] = set()
    for split in splits:
        for passage in source.passages(split, folder, **options):
            content = f"{passage.title}\n{passage.text}".encode("utf-8", "surrogatepass")
            digest = hashlib.blake2b(content, digest_size=16).digest()
            if digest not in seen:
                seen.add(digest)
                yield passage


def check_data(env_id: str, split: str, *, data_dir: str | Path | None = None, own_passages: bool = True) -> None:
    """Look whether a benchmark's data is there, without reading it whole or building an index.

    Args:
        env_id: a Gymnasium id; only those of benchmarks that are read from files are looked at.
        split: which questions; one that the benchmark does not have is left to :func:`make` to refuse.
        data_dir: where the data is; :func:`default_data_dir` where it is not given.
        own_passages: whether the passages that come with the questions are what will be searched.

    Raises:
        DataNotFound: there is no file of the split, or no passages come with it.
        DataError: its first records cannot be read.
    """
    name = next((name for name, entry in BENCHMARKS.items() if entry.id == env_id.rpartition(":")[2]), None)
    if name is None or GENERATED in BENCHMARKS[name].groups:
        return
    source = load_benchmark(name)
    if split not in source.splits:
        return
    folder = default_data_dir() if data_dir is None else Path(data_dir).expanduser()
    if split not in source.available(folder):
        # It is not there, unless it is a demo: reading it ends at once, in the error that says how to get it.
        source.load(split, folder)
    if own_passages:
        next(iter(source.passages(split, folder)), None)


def make(
    benchmark: str,
    *,
    split: str | None = None,
    data_dir: str | Path | None = None,
    search: str | SearchBackend | None = None,
    **arguments: Any,
) -> SearchQAEnv:
    """Make the environment of a benchmark; ``gymnasium.make`` calls this.

    Args:
        benchmark: a name in ``BENCHMARKS``.
        split: which questions; where it is not given the first of the benchmark's splits (``train`` where it has one)
            that is installed. ``demo`` are bundled questions of the benchmark's kind about a fictional world.
        data_dir: where the data is; :func:`default_data_dir` where it is not given.
        search: a URI for ``search_backend.open`` or a backend. Without it, the passages that come with the benchmark
            are indexed once, in the cache directory.
        **arguments: of ``Rules.of``; ``order``, ``copies`` and ``render_mode`` of ``SearchQAEnv``; and options of the
            benchmark (``world=`` of MicroWiki).

    Raises:
        DataNotFound: no data is installed; the message says how to get it.
        TypeError: an argument that neither the environment nor the benchmark has.
        ValueError: an argument with a wrong value.
    """
    source = load_benchmark(benchmark)
    options = {name: value for name, value in arguments.items() if name not in _OF_RULES | _OF_ENV}
    known = {p.name for p in inspect.signature(source.load).parameters.values() if p.kind is p.KEYWORD_ONLY}
    if unknown := sorted(set(options) - known):
        known |= _OF_RULES | _OF_ENV | {"split", "data_dir", "search"}
        raise TypeError(f"{BENCHMARKS[benchmark].id} has no argument {unknown[0]!r}: it has {', '.join(sorted(known))}")
    folder = default_data_dir() if data_dir is None else Path(data_dir).expanduser()
    if split is None:
        split = (*source.available(folder), *source.splits)[0]
    dataset = source.load(split, folder, **options)
    if isinstance(search, str):
        backend = search_backend.open(search)
    else:
        backend = search or _own_passages(source, dataset, folder, options)
    chosen = {**BENCHMARKS[benchmark].defaults, **arguments}
    rules = Rules.of(**{name: value for name, value in chosen.items() if name in _OF_RULES})
    env = SearchQAEnv(dataset, backend, rules, **{name: value for name, value in chosen.items() if name in _OF_ENV})
    env.closes_search = not isinstance(search, SearchBackend)
    return env


def make_task(family: str, **arguments: Any) -> TaskEnv[Any]:
    """Make the environment of a task family; ``gymnasium.make`` calls this.

    Args:
        family: an id in ``TASK_FAMILIES``.
        **arguments: of what makes it; its docstring lists them.
    """
    module, _, name = TASK_FAMILIES[family].partition(":")
    env: TaskEnv[Any] = getattr(_module_of_envs(module), name)(**arguments)
    return env


def make_vec(benchmark: str, *, num_envs: int = 1, **arguments: Any) -> SyncVectorEnv:
    """Make copies of an environment; ``gymnasium.make_vec`` calls this where no ``vectorization_mode`` is named.

    With ``order="file"`` every copy takes its own share of the questions. Gymnasium's modes ``sync`` and ``async`` do
    not tell a copy how many there are: give them ``copies=`` and seed the first reset.

    Args:
        benchmark: a name in ``BENCHMARKS``.
        num_envs: how many.
        **arguments: of ``gymnasium.make``.
    """
    if arguments.get("order") == "file":
        arguments.setdefault("copies", num_envs)
    envs = SyncVectorEnv([partial(gymnasium.make, BENCHMARKS[benchmark].id, **arguments)] * num_envs)
    for index, env in enumerate(envs.envs):
        assert isinstance(env.unwrapped, SearchQAEnv)
        env.unwrapped.take_share(index)
    return envs


def _own_passages(source: Benchmark, dataset: Dataset, folder: Path | None, options: dict[str, Any]) -> SearchBackend:
    # Equal digests mean equal sources, so every process and every split of one world shares one index.
    where = search_backend.cache_dir() / "benchmarks" / f"{source.name}-{dataset.digest[:16]}"
    return search_backend.build_or_open(
        where, lambda: source.passages(dataset.split, folder, **options), expected_key=f"{source.name} {dataset.digest}"
    )


def register() -> None:
    """Register every benchmark and task family with Gymnasium; ``import at2po_env`` does it."""
    for name, entry in BENCHMARKS.items():
        gymnasium.register(
            entry.id,
            entry_point="at2po_env.registration:make",
            vector_entry_point="at2po_env.registration:make_vec",
            kwargs={"benchmark": name},
        )
    for family in TASK_FAMILIES:
        gymnasium.register(family, entry_point="at2po_env.registration:make_task", kwargs={"family": family})
