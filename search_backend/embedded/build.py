"""Build an index directory from a stream of passages: sorted by id, bounded in memory, all or nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tantivy

from search_backend.analysis import K1, MAX_QUERY_TERMS, Analyzer, B, check_options
from search_backend.base import CorpusError, Manifest, Passage
from search_backend.embedded import files, impacts
from search_backend.embedded.sort import PROGRESS_EVERY, Progress, SortedCorpus

_ABANDONED_AFTER_S = 3600.0
PARALLEL_FROM = 100_000
"""Passages from which on several threads index: each makes segments of its own, and few passages are searched faster in
one."""

_MOST_THREADS = 4  # one process reads, sorts and hands over about as fast as these index


def build_index(
    target: Path,
    passages: Iterable[Passage],
    *,
    analyzer: str,
    title_boost: int,
    memory_mb: int,
    key: str | None,
    progress: Progress | None,
    outdated: Callable[[], bool] = lambda: False,
) -> bool:
    """Build the index ``target`` beside it and rename it into place; return whether it got there.

    ``outdated`` is asked at the end about what is there by then: it gives way if so. Otherwise the result is False and
    nothing changed.

    Raises:
        CorpusError: The passages are unusable, or the index cannot be written. Nothing is left behind.
    """
    check_options(analyzer, title_boost, memory_mb)
    report, words = progress or (lambda phase, done: None), Analyzer(analyzer)
    with _workshop(target) as work:
        scratch, content = work / "runs", work / "index"
        rows = SortedCorpus(passages, scratch, memory_mb * 1_000_000 // 4, report)
        with _writing(target):
            digest, count = _write_segments(content, rows, words, title_boost, memory_mb * 1_000_000 // 2, report)
            if count >= impacts.FROM:
                impacts.write(content, words, memory_mb * 1_000_000 // 2 // impacts.POSTING_BYTES)
            manifest = Manifest(
                backend="embedded",
                corpus_digest=digest,
                passages=count,
                analyzer=analyzer,
                parameters={
                    "engine": "tantivy " + ".".join(tantivy.__version__.split(".")[:2]),
                    "k1": K1,
                    "b": B,
                    "title_boost": title_boost,
                    "max_query_terms": MAX_QUERY_TERMS,
                },
            )
            files.write_manifest(content, manifest, key)
            if outdated():
                os.replace(target, work / "replaced")
            return _publish(content, target)


def _publish(finished: Path, target: Path) -> bool:
    """Rename a finished directory into place unless another one is there already."""
    try:
        os.replace(finished, target)
    except OSError:
        # Linux says ENOTEMPTY, others EEXIST or EACCES: only the directory itself tells "taken" from "failed".
        if target.is_dir() and any(target.iterdir()):
            return False
        raise
    if hasattr(os, "O_DIRECTORY"):
        parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    return True


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Name the index in what the disk and tantivy (which raises ValueError) complain about."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise CorpusError(f"the index {target} cannot be written: {error}; nothing was left behind") from error


@contextmanager
def _workshop(target: Path) -> Iterator[Path]:
    """A directory beside ``target`` (same file system, so the rename is atomic), gone afterwards whatever happens."""
    prefix = f".{target.name}.building-"
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for abandoned in target.parent.glob(f"{prefix}*"):
            if time.time() - _last_change(abandoned) > _ABANDONED_AFTER_S:
                shutil.rmtree(abandoned, ignore_errors=True)
        work = target.parent / f"{prefix}{uuid.uuid4().hex}"
        work.mkdir()
        (work / "runs").mkdir()
        (work / "index").mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _last_change(directory: Path) -> float:
    """Latest change below ``directory``, seconds since the epoch; now, if it is vanishing while we look."""
    try:
        return max(path.stat().st_mtime for path in (directory, *directory.rglob("*")))
    except FileNotFoundError:
        return time.time()


def _write_segments(
    directory: Path, passages: SortedCorpus, analyzer: Analyzer, title_boost: int, heap_bytes: int, report: Progress
) -> tuple[str, int]:
    """Write the passages, which come in id order; return the corpus digest and their number.

    The digest is the SHA-256 over the packed passages in id order.
    """
    index = files.create_index(directory, analyzer)
    threads = 1 if len(passages) < PARALLEL_FROM else min(_MOST_THREADS, os.cpu_count() or 1)
    writer = index.writer(min(heap_bytes, 2_000_000_000 * threads), threads)
    digest = hashlib.sha256()
    count = 0
    try:
        for count, passage in enumerate(passages, 1):
            packed = files.pack(passage)
            digest.update(packed)
            content = analyzer.prepare("\n".join([*[passage.title] * title_boost, passage.text]))
            writer.add_document(_document(packed, count, content))
            if count % PROGRESS_EVERY == 0:
                report("indexing", count)
        writer.commit()
    finally:
        # Also after a failure: the engine's threads must not write into a directory that is being removed.
        writer.wait_merging_threads()
    report("indexing", count)
    return digest.hexdigest(), count


def _document(packed: bytes, rank: int, content: str) -> tantivy.Document:
    document = tantivy.Document()
    document.add_unsigned(files.RANK, rank)
    document.add_bytes(files.STORED, packed)
    document.add_text(files.CONTENT, content)
    return document
