"""Benchmark files in the data directory: which are there, what an unknown file is, and putting it there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from at2po_env.dataset import Benchmark, DataError, DataNotFound, Dataset
from at2po_env.registration import BENCHMARKS, load_benchmark

WAYS = (
    "Three ways to get them: `at2po-agent data pull` fetches all from the Hugging Face hub; `at2po-agent data import "
    "FILE…` installs original files; AT2PO_DATA=DIR names a folder that holds them. Without any, split='demo' of every "
    "id and AT2PO-MicroWiki-v0 work."
)


@runtime_checkable
class FileSource(Benchmark, Protocol):
    """A benchmark that is read from files."""

    def names(self, split: str) -> tuple[str, ...]:
        """Names that the file of a split may have, in the order in which they are looked for."""
        ...

    def present(self, split: str, data_dir: Path | None) -> tuple[Path, ...]:
        """The files of a split; the first is read and hides the others."""
        ...

    def find(self, split: str, data_dir: Path | None) -> Path | None:
        """The file of a split that is read, or None."""
        ...

    def load_file(self, path: Path, split: str) -> Dataset:
        """Read one file as the questions of a split."""
        ...

    def recognises(self, path: Path) -> bool:
        """Whether the file can be of this benchmark only, by its first record."""
        ...

    def split_of(self, name: str) -> str | None:
        """The split that a file's name says, or None."""
        ...


@dataclass(frozen=True)
class Placed:
    """A file that was put into the data directory; ``read`` is the file that its split is read from now."""

    dataset: Dataset
    path: Path
    read: Path


def file_sources() -> Mapping[str, FileSource]:
    """The benchmarks that are read from files, by name."""
    found = {name: load_benchmark(name) for name in BENCHMARKS}
    return {name: source for name, source in found.items() if isinstance(source, FileSource)}


def file_source(name: str) -> FileSource:
    """One of :func:`file_sources`.

    Raises:
        DataError: there is none of this name.
    """
    known = file_sources()
    if name not in known:
        raise DataError(f"no benchmark with files is named {name!r}: there are {', '.join(known)}")
    return known[name]


def installed(data_dir: Path) -> Iterator[tuple[FileSource, str, Path]]:
    """Every split that has a file in ``data_dir``, with the file that is read for it."""
    for source in file_sources().values():
        for split in source.available(data_dir):
            if (path := source.find(split, data_dir)) is not None:
                yield source, split, path


def hidden(data_dir: Path) -> Mapping[Path, Path]:
    """The files in ``data_dir`` that are read for no split, each with the file that is read in its place."""
    there = list(installed(data_dir))
    read = {path for _, _, path in there}
    hiding: dict[Path, Path] = {}
    for source, split, path in there:
        for other in source.present(split, data_dir):
            if other not in read:
                hiding.setdefault(other, path)
    return hiding


def has_passages(source: FileSource, split: str, data_dir: Path) -> bool:
    """Whether passages to search come with the questions of an installed split.

    Raises:
        DataError: a record is bad.
    """
    try:
        return any(True for _ in source.passages(split, data_dir))
    except DataNotFound:
        return False


def identify(path: Path, stated: str | None = None, origin: Path | None = None) -> tuple[FileSource, str]:
    """The benchmark and split of a file: as ``stated`` (``nq`` or ``nq/test``), or by its first record and its name.

    Args:
        path: the file.
        stated: what its user says that it is.
        origin: where it comes from, if it was unpacked: the folders there can tell what it is.

    Raises:
        DataError: it cannot be read, or what it is cannot be told; the message says how to state it.
    """
    name, _, split = (stated or "").partition("/")
    source = file_source(name) if name else _recognise(path, origin or path)
    found = split or source.split_of(path.name)
    if found is None or found not in source.splits or found == "demo":
        splits = ", ".join(f"{source.name}/{known}" for known in source.splits if known != "demo")
        raise DataError(f"{path}: which split of {source.name} is it? Say so with --as: {splits}")
    return source, found


def _recognise(path: Path, origin: Path) -> FileSource:
    sources = file_sources()
    by_content = [source for source in sources.values() if source.recognises(path)]
    if len(by_content) == 1:
        return by_content[0]
    # FlashRAG's files of some benchmarks hold nothing but questions and answers: then only the folder can tell, or the
    # archive (nq.zip).
    folders = (part.partition(".")[0] for part in reversed(origin.absolute().parts[:-1]))
    by_folder = [sources[folder] for folder in folders if folder in sources]
    if not by_content and by_folder:
        return by_folder[0]
    raise DataError(
        f"{path}: no benchmark's layout; say what it is with --as: {', '.join(sources)}, e.g. --as nq/test "
        "(of a merged file, that takes its rows)"
    )


def install(
    path: Path, source: FileSource, split: str, data_dir: Path, *, keep: Container[Path] = frozenset()
) -> Placed:
    """Read a file strictly and copy it into ``data_dir`` under a name that the benchmark looks for.

    Args:
        path: the file.
        source: its benchmark.
        split: its split.
        data_dir: where it is copied to.
        keep: files there that must not be replaced: those that the same import has just put there.

    Raises:
        NoQuestions: no question can be scored.
        DataError: a record is bad, a file of ``keep`` would be replaced, or the copy cannot be written. Nothing is left
            behind.
    """
    dataset = source.load_file(path, split)
    target = data_dir / source.name / _target_name(path, source, split)
    if target in keep:
        raise DataError(
            f"{path}: {target} has just been imported from another file of {source.name} {split}, and one file is read "
            "for a split; join them if they are parts of it, else import the right one alone"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target.exists() and target.samefile(path)):
            _copy(path, target)
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror or error}") from error
    return placed(dataset, source, target, data_dir)


def placed(dataset: Dataset, source: FileSource, path: Path, data_dir: Path) -> Placed:
    """Say which file is read, now that ``path`` is there: one with another name may come first."""
    read = source.find(dataset.split, data_dir)
    assert read is not None
    return Placed(dataset, path, read)


def _target_name(path: Path, source: FileSource, split: str) -> str:
    """The name of the file if the benchmark looks for it, with its folder, else the first with its ending."""
    names = source.names(split)
    same = [name for name in names if name.rpartition("/")[2] == path.name]
    ending = [name for name in names if name.endswith(path.suffix.lower())] if path.suffix else []
    if not same and not ending:
        raise DataError(f"{path}: {source.name} {split} is read from {', '.join(names)}; rename it to one of them")
    return (same or ending)[0]


def _copy(path: Path, target: Path) -> None:
    temporary = target.parent / f".tmp-{target.name}"
    try:
        with path.open("rb") as origin, temporary.open("wb") as copy:
            shutil.copyfileobj(origin, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
