"""Data files in folders, archives (zip, tar, tar.gz) and gzip files, unpacked one at a time and within bounds."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Protocol

from at2po_env.dataset import DataError

MAX_UNPACKED = 32 << 30
"""Bytes that an archive may hold, members that are passed over among them: TriviaQA's hold some ten gigabytes."""

_DATA = (".json", ".jsonl", ".csv", ".tsv", ".parquet")
_PACKED = (".gz", ".tgz", ".zip", ".tar")
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_CHUNK = 1 << 20
_MAX_TAR_HEADER = 1 << 20
_TAR_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
# RuntimeError: the member is encrypted; ValueError: its name is none of a file.
_UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError)


@dataclass(frozen=True)
class DataFile:
    """A file that can be read at ``path``, and where it comes from: ``ARCHIVE/MEMBER`` for one that was unpacked."""

    path: Path
    origin: Path


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def data_files(path: Path) -> Iterator[DataFile]:
    """The data files that a path stands for: itself, the file packed in it, or what a folder or an archive holds.

    In folders and archives, files without the ending of data, hidden ones and what is no regular file are passed over,
    and so are archives in archives. An unpacked file is there until the next one is taken. Members are written under
    their last name in a temporary folder, so that none can point outside.

    Raises:
        DataError: an archive is damaged, encrypted, or holds more than ``MAX_UNPACKED`` bytes.
    """
    if not path.is_dir():
        yield from _unpacked(path)
        return
    # Listed before the first is taken: importing can add files to the folder.
    inside = sorted(file for file in path.rglob("*") if _named(str(file.relative_to(path)), _DATA + _PACKED))
    for file in inside:
        if file.is_file():
            yield from _unpacked(file)


def _unpacked(path: Path) -> Iterator[DataFile]:
    # What is no regular file is for its reader to refuse: opening a pipe here would wait for somebody to write.
    start = _start(path) if path.is_file() else b""
    if start.startswith(_ZIP):
        members = _zip_members(path)
    elif _is_tar(start):
        members = _tar_members(path)
    elif start.startswith(_GZIP):
        members = _gzip_members(path)
    else:
        yield DataFile(path, path)
        return
    with TemporaryDirectory(prefix="at2po-") as folder:
        left = MAX_UNPACKED
        while True:
            with _failing_clearly(path):
                member = next(members, None)
                if member is None:
                    return
                name, stream = member
                target = Path(folder) / PurePosixPath(name or path.stem).name
                left -= _write(stream, target, left)
            yield DataFile(target, path / name if name else path)
            target.unlink()


def _start(path: Path) -> bytes:
    """The first bytes of a file, or of what gzip packed in it if that is an archive."""
    with _failing_clearly(path), path.open("rb") as file:
        start = file.read(512)
        if start.startswith(_GZIP):
            with gzip.open(path) as packed:
                inner = packed.read(512)
            return inner if _is_tar(inner) else start
        return start


def _is_tar(start: bytes) -> bool:
    return start[257:262] == b"ustar"


def _zip_members(path: Path) -> Iterator[tuple[str, _Readable]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if not member.is_dir() and kind in (0, stat.S_IFREG) and _named(member.filename, _DATA):
                with archive.open(member) as stream:
                    yield member.filename, stream


def _tar_members(path: Path) -> Iterator[tuple[str, _Readable]]:
    with path.open("rb") as file, gzip.GzipFile(fileobj=file) as unzipped:
        plain: _Readable = unzipped if file.peek(2).startswith(_GZIP) else file
        with tarfile.open(fileobj=_Bounded(plain), mode="r|", tarinfo=_SmallHeaders) as archive:
            while (member := archive.next()) is not None:
                # Otherwise it keeps every one of them: an archive can have millions.
                archive.members.clear()  # type: ignore[attr-defined]
                if member.isreg() and _named(member.name, _DATA):
                    stream = archive.extractfile(member)
                    assert stream is not None
                    yield member.name, stream


def _gzip_members(path: Path) -> Iterator[tuple[str, _Readable]]:
    with gzip.open(path) as stream:
        yield "", stream


class _Bounded(io.BufferedIOBase):
    """A stream that ends in an error after ``MAX_UNPACKED`` bytes, those of members that are passed over among them."""

    def __init__(self, stream: _Readable) -> None:
        self._stream, self._left = stream, MAX_UNPACKED

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._stream.read(-1 if size is None else size)
        self._left -= len(data)
        if self._left < 0:
            raise _TooLarge
        return data


class _SmallHeaders(tarfile.TarInfo):
    """A member's header; one of which tarfile would read gigabytes into memory is refused."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _SmallHeaders:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _TAR_HEADERS and header.size > _MAX_TAR_HEADER:
            raise _TooLarge
        return header


class _TooLarge(Exception):
    pass


def _write(stream: _Readable, target: Path, limit: int) -> int:
    """Copy a member and return its size, whatever its header says that this would be."""
    written = 0
    with target.open("wb") as file:
        while chunk := stream.read(_CHUNK):
            written += len(chunk)
            if written > limit:
                raise _TooLarge
            file.write(chunk)
    return written


def _named(member: str, endings: tuple[str, ...]) -> bool:
    """Whether a member has one of the endings, and neither it nor a folder above it is hidden or a Mac's shadow."""
    hidden = any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(member).parts if part != "..")
    return member.lower().endswith(endings) and member.isprintable() and not hidden


@contextmanager
def _failing_clearly(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except _TooLarge as error:
        raise DataError(f"{path}: holds more than {MAX_UNPACKED >> 20:,} MB; unpack it and import the files") from error
    except _UNREADABLE as error:
        problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be unpacked: {problem}") from error
