r"""Streaming readers of passage files, each plain or compressed (``.gz``, ``.zst``).

``.jsonl``: one object a line, either ``{"id" or "_id", "title", "text"}`` (BEIR, MS MARCO) or
``{"id", "contents": "\"Title\"\ntext"}`` (Search-R1's wiki-18, FlashRAG).

``.tsv``: DPR's ``psgs_w100.tsv``: tabs, CSV quoting, a header line that names ``id``, ``text`` and ``title``.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from search_backend.base import CorpusError, Passage
from search_backend.packed import unpack_zstd

MOST_LINE = 64 * 2**20
"""Bytes of one line of a passage file, unpacked."""

_TSV_FIELDS = ("id", "text", "title")


def read_passages(path: str | os.PathLike[str]) -> Iterator[Passage]:
    """Stream the passages of one file, in its order. Blank lines are skipped; a missing title is the empty string.

    Raises:
        CorpusError: At once, if the file is missing or its name has no known ending; while reading, if a line cannot be
            read. The message names file, line and field.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise CorpusError(f"{file}: no such passage file")
    name = file.name.lower()
    opener: Callable[[Path], Iterator[bytes]] = _plain_lines
    for ending, reader in ((".gz", _gzip_lines), (".zst", _zstd_lines)):
        if name.endswith(ending):
            name, opener = name.removesuffix(ending), reader
    for ending, parse in ((".jsonl", _read_jsonl), (".tsv", _read_tsv)):
        if name.endswith(ending):
            return parse(file, _text_lines(file, opener(file)))
    raise CorpusError(f"{file}: passages are read from .jsonl and .tsv, also with .gz or .zst; this is neither")


def _plain_lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        yield from _bounded_lines(stream)


def _gzip_lines(file: Path) -> Iterator[bytes]:
    with gzip.open(file, "rb") as stream:
        yield from _bounded_lines(stream)


def _bounded_lines(stream: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    while line := stream.readline(MOST_LINE + 1):
        _check_length(line)
        yield line


def _zstd_lines(file: Path) -> Iterator[bytes]:
    rest = bytearray()
    with file.open("rb") as stream:
        for part in unpack_zstd(stream):
            *lines, end = part.split(b"\n")
            for line in lines:
                rest += line + b"\n"
                _check_length(rest)
                yield bytes(rest)
                rest.clear()
            rest += end
            _check_length(rest)
    if rest:
        yield bytes(rest)


def _check_length(line: bytes | bytearray) -> None:
    if len(line) > MOST_LINE:
        raise EOFError(f"a line of more than {MOST_LINE:,} bytes, which is no passage")


def _text_lines(file: Path, lines: Iterator[bytes]) -> Iterator[str]:
    """Decode the lines, turning every way in which reading can fail into one message."""
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{file}, line {number}: not UTF-8 ({error.reason} at byte {error.start})") from error
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise CorpusError(f"{file}, after line {number}: cannot be read or decompressed ({error})") from error


def _read_jsonl(file: Path, lines: Iterator[str]) -> Iterator[Passage]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise CorpusError(f"{where}: a JSON object is needed, not {type(record).__name__}")
        yield _from_record(record, where)


def _from_record(record: dict[str, Any], where: str) -> Passage:
    key = "id" if "id" in record else "_id"
    identifier = record.get(key)
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not isinstance(identifier, str) or not identifier:
        raise CorpusError(f"{where}: field {key!r} must be a non-empty string or an integer, not {identifier!r}")
    if "text" not in record and "contents" in record:
        title, _, text = _string(record, "contents", where).partition("\n")
        if len(title) > 1 and title.startswith('"') and title.endswith('"'):
            title = title[1:-1]
        return Passage(identifier, title, text)
    title = "" if record.get("title") is None else _string(record, "title", where)
    return Passage(identifier, title, _string(record, "text", where))


def _string(record: dict[str, Any], field: str, where: str) -> str:
    if field not in record:
        raise CorpusError(f"{where}: field {field!r} is missing (found: {', '.join(sorted(record)) or 'none'})")
    value = record[field]
    if not isinstance(value, str):
        raise CorpusError(f"{where}: field {field!r} must be a string, not {type(value).__name__}")
    return value


def _read_tsv(file: Path, lines: Iterator[str]) -> Iterator[Passage]:
    rows = csv.reader(lines, delimiter="\t", strict=True)
    columns: list[str] | None = None
    while True:
        # A quoted field may hold line breaks: a row is named by its first line.
        where = f"{file}, line {rows.line_num + 1}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise CorpusError(f"{where}: not tab-separated values ({error})") from error
        if columns is None:
            columns = row
            missing = [field for field in _TSV_FIELDS if field not in columns]
            if missing:
                raise CorpusError(f"{where}: the header lacks the field {missing[0]!r} (found: {', '.join(columns)})")
        elif row:
            if len(row) != len(columns):
                raise CorpusError(f"{where}: {len(row)} fields instead of {len(columns)} ({', '.join(columns)})")
            fields = dict(zip(columns, row, strict=True))
            if not fields["id"]:
                raise CorpusError(f"{where}: field 'id' is empty")
            yield Passage(fields["id"], fields["title"], fields["text"])
