"""Indexes that are made at first use and kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import platformdirs

from search_backend.analysis import MEMORY_MB, TITLE_BOOST
from search_backend.base import CorpusError, Passage
from search_backend.embedded import files
from search_backend.embedded.backend import EmbeddedIndex
from search_backend.embedded.build import build_index
from search_backend.embedded.sort import Progress


def cache_dir() -> Path:
    """The cache directory: ``$AT2PO_CACHE``, else the user's. It may not exist."""
    chosen = os.environ.get("AT2PO_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("at2po", appauthor=False)


def build_or_open(
    directory: str | os.PathLike[str],
    passages: Callable[[], Iterable[Passage]],
    *,
    expected_key: str | None,
    analyzer: str = "standard",
    title_boost: int = TITLE_BOOST,
    memory_mb: int = MEMORY_MB,
    progress: Progress | None = None,
) -> EmbeddedIndex:
    """Open the cached index, or build it from ``passages()`` at the first use.

    Any number of processes may do this at once: each builds beside the target, the first rename wins, and the others
    discard theirs and open the winner's.

    Args:
        directory: Where the index is kept.
        passages: Called only if the index must be built.
        expected_key: What the passages are made from, in words of the caller's. An index with another key, analyzer or
            title boost is replaced. None accepts any key.
        analyzer: See ``EmbeddedIndex.build``; so are the others.
        title_boost: Counted titles.
        memory_mb: Memory bound of a build.
        progress: Called while building.

    Raises:
        CorpusError: As ``EmbeddedIndex.build``; or the directory holds something that is not an index, which is never
            deleted.
    """
    target = files.resolve(directory)

    def outdated() -> bool:
        if not files.is_ours(target):
            return False
        try:
            manifest, key = files.read_manifest(target)
        except CorpusError:
            return True
        same_build = manifest.analyzer == analyzer and manifest.parameters["title_boost"] == title_boost
        return not same_build or expected_key not in (None, key)

    while not files.occupied(target) or outdated():
        build_index(
            target,
            passages(),
            analyzer=analyzer,
            title_boost=title_boost,
            memory_mb=memory_mb,
            key=expected_key,
            progress=progress,
            outdated=outdated,
        )
    return EmbeddedIndex.open(target)
