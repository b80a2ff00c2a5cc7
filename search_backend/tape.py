"""Record what a backend answered and replay it: the same results later, offline, or branch after branch.

A tape is a JSON-lines file that is only ever appended to. Its first line holds the backend's manifest, each further
line one answer, keyed by (manifest digest, query, k); of two answers to one key the later counts. Several processes
may append to one tape: each line is one ``write`` to a file opened with ``O_APPEND``. A line that a crash or a full
disk cut short is skipped, never misread.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl, quote

from search_backend.base import (
    CorpusError,
    Hit,
    Manifest,
    Passage,
    SearchBackend,
    SearchError,
    SearchUnavailable,
    TapeMiss,
    check_request,
)
from search_backend.forks import ForkLock
from search_backend.outside import Unusable, finite, read_json

Mode = Literal["record", "replay", "read-through"]
_HEADER = b'{"at2po_tape": 1, '
_CHUNK = 1 << 20


class Tape:
    """A backend that records another one, replays it, or asks it only for what the tape lacks.

    Args:
        path: The tape; made where needed, except to replay it.
        over: The recorded backend. Replaying needs none, and does not use one.
        mode: ``record`` asks always, ``replay`` never, ``read-through`` on a miss; what was asked is written.

    Raises:
        CorpusError: The file is no tape, or cannot be read or written.
        SearchError: Another backend than ``over`` was recorded on this tape; or ``over`` is needed and missing.
    """

    def __init__(self, path: str | os.PathLike[str], over: SearchBackend | None, mode: Mode) -> None:
        if mode not in get_args(Mode):
            raise SearchError(f"unknown tape mode {mode!r}; known: {', '.join(get_args(Mode))}")
        if over is None and mode != "replay":
            raise SearchError(f"a tape in mode {mode} needs the backend that it records (over=URI)")
        self._path = Path(path).expanduser().absolute()
        self._over = None if mode == "replay" else over
        self._mode: Mode = mode
        self._descriptor: int | None = None
        self._lock = ForkLock()
        # digest of (query, k) → (offset, length) of its line; where the scan of the file stands
        self._answers: dict[bytes, tuple[int, int]] = {}
        self._scanned = 0
        # The file ends in what a full disk took of a line; the next line must begin on its own.
        self._stump = False
        try:
            self._descriptor = self._open_file()
            self._manifest = self._read_header() if self._over is None else self._claim(self._over.manifest)
            self._scan()
        except OSError as error:
            self.close()
            raise CorpusError(f"the tape {self._path} cannot be opened: {error}") from error
        except SearchError:
            self.close()
            raise

    @property
    def manifest(self) -> Manifest:
        """The manifest of the recorded backend: a replay answers as that backend did."""
        return self._manifest

    def position(self) -> int:
        """Bytes of the tape that were read or written so far; what is below never changes again."""
        return self._scanned

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Answer from the tape or from the recorded backend, as the mode says.

        Raises:
            BadQuery: ``k < 1`` or a query is not a string.
            TapeMiss: In mode ``replay``, the tape lacks one of the queries.
            CorpusError: The tape cannot be read or written (a full disk).
            SearchError: Whatever the recorded backend raises.
        """
        check_request(queries, k)
        distinct = list(dict.fromkeys(queries))
        with self._lock:
            found = {} if self._mode == "record" else self._recall(distinct, k)
        missing = [query for query in distinct if query not in found]
        if missing and self._over is None:
            raise TapeMiss(
                f"the tape {self._path} has no answer for the query {missing[0][:200]!r} with k={k} ({len(missing)} of "
                f"{len(distinct)} queries missing); record it with mode=read-through"
            )
        if missing and self._over is not None:
            for query, hits in zip(missing, self._over.search(missing, k), strict=True):
                found[query] = hits
            self._store({query: found[query] for query in missing}, k)
        return [list(found[query]) for query in queries]

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """``search`` on a worker thread."""
        return await asyncio.to_thread(self.search, queries, k)

    def close(self) -> None:
        """Flush and close the tape and the recorded backend; calling it twice is fine."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                if self._over is not None:
                    os.fsync(descriptor)
                os.close(descriptor)
        if self._over is not None:
            self._over.close()

    def __reduce__(self) -> tuple[Callable[..., Tape], tuple[Path, SearchBackend | None, Mode]]:
        return Tape, (self._path, self._over, self._mode)

    def _open_file(self) -> int:
        if self._over is None:
            if not self._path.is_file():
                raise CorpusError(f"there is no tape {self._path}; record one with mode=record")
            return os.open(self._path, os.O_RDONLY)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)

    def _file(self) -> int:
        if self._descriptor is None:
            raise SearchUnavailable(f"the tape {self._path} was closed")
        return self._descriptor

    def _claim(self, manifest: Manifest) -> Manifest:
        """Write the header of a new tape, or check that the tape is one of this backend."""
        first = os.pread(self._file(), _CHUNK, 0)
        if b"\n" not in first and (first.startswith(_HEADER) or _HEADER.startswith(first)):
            if first:
                # A header that a crash cut short: there is no answer to lose.
                os.ftruncate(self._file(), 0)
            body = json.dumps({"manifest": manifest.to_json()})
            self._append(_HEADER + body[1:].encode() + b"\n")
        recorded = self._read_header()
        if recorded.digest != manifest.digest:
            raise SearchError(
                f"the tape {self._path} was recorded over another backend ({recorded.backend}, {recorded.passages} "
                f"passages, digest {recorded.digest[:12]}) than this one ({manifest.backend}, {manifest.passages} "
                f"passages, digest {manifest.digest[:12]}); use another file"
            )
        size = os.fstat(self._file()).st_size
        if os.pread(self._file(), 1, size - 1) != b"\n":
            # End the torn line, instead of cutting it off: another process may be appending right now.
            self._append(b"\n")
        return manifest

    def _read_header(self) -> Manifest:
        first = os.pread(self._file(), _CHUNK, 0).partition(b"\n")[0]
        try:
            if not first.startswith(_HEADER):
                raise ValueError("its first line is no tape header")
            return Manifest.from_json(read_json(first)["manifest"])
        except (ValueError, KeyError) as error:
            raise CorpusError(f"{self._path} is not a tape ({error}); it is left as it is") from error

    def _key(self, query: str, k: int) -> bytes:
        return hashlib.blake2b(f"{k} {query}".encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def _scan(self) -> None:
        """Note where the answers lie that this or another process appended since the last scan."""
        own = self._manifest.digest
        rest = b""
        while chunk := os.pread(self._file(), _CHUNK, self._scanned + len(rest)):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._note(line, own)
                self._scanned += len(line) + 1
        if rest and self._note(rest, own):
            self._scanned += len(rest)

    def _note(self, line: bytes, own: str) -> bool:
        """Note one line's answer; False for what a crash left of one."""
        try:
            # Not by ``read_json``, which replaces the lone surrogates that a query may have.
            record = json.loads(line)
            if record["manifest"] == own:
                self._answers[self._key(record["query"], record["k"])] = (self._scanned, len(line))
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        return True

    def _recall(self, queries: Sequence[str], k: int) -> dict[str, list[Hit]]:
        keys = {query: self._key(query, k) for query in queries}
        if any(key not in self._answers for key in keys.values()):
            self._scan()
        return {query: self._read(self._answers[key]) for query, key in keys.items() if key in self._answers}

    def _read(self, place: tuple[int, int]) -> list[Hit]:
        line = os.pread(self._file(), place[1], place[0])
        try:
            return [_hit(entry) for entry in read_json(line)["hits"]]
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                f"the tape {self._path} has no answer in its line at byte {place[0]} ({error}): it is damaged, or was "
                "changed while it was in use; remove that line"
            ) from error

    def _store(self, answers: dict[str, list[Hit]], k: int) -> None:
        lines: dict[str, bytes] = {}
        for query, hits in answers.items():
            record: dict[str, Any] = {
                "manifest": self._manifest.digest,
                "query": query,
                "k": k,
                "hits": [[hit.passage.id, hit.passage.title, hit.passage.text, hit.score] for hit in hits],
            }
            lines[query] = json.dumps(record).encode()
        with self._lock:
            for query, line in lines.items():
                place = self._answers.get(self._key(query, k))
                # Recording again what is there already would only let the tape grow.
                if place is None or os.pread(self._file(), place[1], place[0]) != line:
                    self._append(line + b"\n")
            self._scan()

    def _append(self, line: bytes) -> None:
        if self._stump:
            line = b"\n" + line
        try:
            written = os.write(self._file(), line)
        except OSError as error:
            raise CorpusError(f"the tape {self._path} cannot be written: {error}") from error
        self._stump = written < len(line)
        if self._stump:
            raise CorpusError(f"the tape {self._path} cannot be written: the disk took {written} of {len(line)} bytes")


def _hit(entry: Sequence[Any]) -> Hit:
    *texts, score = entry
    if len(texts) != 3 or not all(isinstance(text, str) for text in texts):
        raise Unusable("a hit without id, title and text")
    return Hit(Passage(*texts), finite(score, "the score"))


def tape_uri(path: str | os.PathLike[str], *, mode: Mode, over: str | None = None) -> str:
    """Write the URI of a tape over the backend that the URI ``over`` names."""
    parts = [] if over is None else [f"over={quote(over, safe='')}"]
    return f"tape:{os.fspath(path)}?{'&'.join([*parts, f'mode={mode}'])}"


def open_uri(uri: str) -> Tape:
    """Open ``tape:FILE?over=URI&mode=MODE``: FILE is taken literally up to the ``?``, URI is percent-encoded."""
    import search_backend  # at the call: the package itself imports this module

    file, _, query = uri.split(":", 1)[1].partition("?")
    shape = "tape:FILE?over=URI&mode=record|replay|read-through, with a percent-encoded URI"
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(options.keys() - {"over", "mode"})
    if not file or unknown or options.get("mode") not in get_args(Mode):
        wrong = f"unknown option {unknown[0]!r}" if unknown else "a mode is needed" if file else "it names no file"
        raise SearchError(f"malformed tape URI tape:{file}: {wrong}; write {shape}")
    mode: Mode = options["mode"]  # type: ignore[assignment]
    over = search_backend.open(options["over"]) if "over" in options and mode != "replay" else None
    return Tape(file, over, mode)
