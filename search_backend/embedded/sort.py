"""A corpus in the order of its ids, bounded in memory: what every index is built from.

Sorting makes ties go by id, finds equal ids, and frees the corpus digest from the order of the input. A passage that
comes again in all its parts, as where files overlap, is kept once; two different ones with one id are an error.
"""

from __future__ import annotations

import heapq
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from search_backend.base import CorpusError, Passage

Progress = Callable[[str, int], None]
"""Called with the phase (``reading``, then ``indexing``) and the number of passages it has done so far."""

PROGRESS_EVERY = 10_000
_SURROGATE = re.compile("[\ud800-\udfff]")
# id, position in the input, title, text: sorts by id, and equal ids by position
_Row = tuple[str, int, str, str]


class SortedCorpus:
    """Reads the passages once, when it is made; iterating gives them sorted by id, as often as needed.

    Args:
        passages: In any order.
        scratch: A directory for what does not fit in memory; it must stay while the corpus is used.
        run_bytes: About how much is sorted, and kept, in memory.
        report: Told how many passages were read.

    Raises:
        CorpusError: No passage, an unusable one or a full disk; while iterating, two different passages with one id.
    """

    def __init__(self, passages: Iterable[Passage], scratch: Path, run_bytes: int, report: Progress) -> None:
        self._runs: list[Path] = []
        self._rows: list[_Row] = []
        size = position = 0
        for position, passage in enumerate(passages, 1):
            row = _checked(passage, position)
            self._rows.append(row)
            size += 300 + len(row[2]) + len(row[3])
            if size >= run_bytes:
                self._runs.append(_spill(sorted(self._rows), scratch / str(len(self._runs))))
                self._rows, size = [], 0
            if position % PROGRESS_EVERY == 0:
                report("reading", position)
        report("reading", position)
        if position == 0:
            raise CorpusError("the corpus has no passages; there is nothing to index")
        self._rows.sort()
        self._passages = position

    def __len__(self) -> int:
        """Passages that were read, those that came again among them."""
        return self._passages

    def __iter__(self) -> Iterator[Passage]:
        return _unique(heapq.merge(*(_read_run(run) for run in self._runs), self._rows))


def _checked(passage: Passage, position: int) -> _Row:
    if not isinstance(passage, Passage):
        raise CorpusError(f"item {position} of the corpus is of type {type(passage).__name__}, not a Passage")
    for name in ("id", "title", "text"):
        if not isinstance(getattr(passage, name), str):
            raise CorpusError(f"passage {position} (id {passage.id!r}): {name} is not a string")
    if not passage.id:
        raise CorpusError(f"passage {position} (title {passage.title!r}): id is empty")
    if _encodable(passage.id) != passage.id:
        raise CorpusError(f"passage {position}: id {passage.id!r} is not valid unicode (a lone surrogate)")
    return passage.id, position, _encodable(passage.title), _encodable(passage.text)


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def _spill(rows: list[_Row], path: Path) -> Path:
    try:
        with path.open("wb") as stream:
            for row in rows:
                pickle.dump(row, stream, protocol=5)
    except OSError as error:
        raise CorpusError(f"the passages cannot be sorted: {path} cannot be written: {error}") from error
    return path


def _read_run(path: Path) -> Iterator[_Row]:
    with path.open("rb") as stream:
        while stream.peek(1):
            yield pickle.load(stream)


def _unique(rows: Iterable[_Row]) -> Iterator[Passage]:
    last: _Row | None = None
    for row in rows:
        if last is not None and row[0] == last[0]:
            if row[2:] == last[2:]:
                continue
            raise CorpusError(
                f"two different passages have the id {row[0]!r}: number {last[1]} (title {last[2]!r}) and number "
                f"{row[1]} (title {row[2]!r}); ids must be unique"
            )
        last = row
        yield Passage(row[0], row[2], row[3])
