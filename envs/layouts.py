"""Records of benchmark files, streamed and read strictly: a bad one names the file, where in it, and the field.

Read are one JSON array, JSON lines, TriviaQA's object with the records under ``Data``, CSV (``.csv``), tab-separated
values (``.tsv``) and Parquet. Arrays are streamed with ``ijson``: HotpotQA's training file has 550 MB and would take
over 2 GB as one value. What FlashRAG and Search-R1 put under ``metadata`` is read as if it stood in the record itself,
and null as a field that is missing: merged tables fill the columns that a row does not have with it.
"""

from __future__ import annotations

import csv
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ijson

from at2po_env.dataset import DataError
from search_backend.outside import Unusable, read_json

from . import parquet

_CHUNK = 1 << 16
_OBJECT_OF_RECORDS = re.compile(rb'\s*\{\s*"(Data|Domain|Split|VerifiedEval|Version)"\s*:')
_BOM = b"\xef\xbb\xbf"
_PARQUET = b"PAR1"
_PACKED = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "packed with gzip"}


class Record:
    """One record; a field that is not what it has to be is a :class:`DataError`."""

    def __init__(self, value: Any, where: str, index: int) -> None:
        self.where = where
        self.index = index  # from 0, in the file
        if not isinstance(value, dict):
            raise DataError(f"{where}: a record is a JSON object, got {type(value).__name__}")
        nested = value.get("metadata")
        self.fields: dict[str, Any] = {**_filled(nested if isinstance(nested, dict) else {}), **_filled(value)}

    @property
    def source(self) -> str | None:
        """The benchmark that ``data_source`` names in a merged file (Search-R1's, verl's), or None where none does."""
        if "data_source" not in self.fields:
            return None
        name = re.sub(r"[\W_]", "", self.text("data_source")).lower()
        return name.removeprefix("searchr1") or None

    def __contains__(self, field: str) -> bool:
        return field in self.fields

    def get(self, field: str) -> Any:
        """The field as it stands, or None."""
        return self.fields.get(field)

    def text(self, field: str) -> str:
        """A field that is text."""
        return self.as_text(field, self.fields.get(field))

    def texts(self, field: str) -> tuple[str, ...]:
        """A field that is a list of texts; every text once, in order."""
        return self.as_texts(field, self.fields.get(field))

    def texts_in_json(self, field: str) -> tuple[str, ...]:
        """A field that is a list of texts, or such a list written as one JSON text."""
        value = self.fields.get(field)
        if isinstance(value, str):
            try:
                value = read_json(value)
            except Unusable as error:
                raise self.error(field, f"must be a JSON list of texts: {error}") from error
        return self.as_texts(field, value)

    def pairs(self, field: str, first: str, *second: str) -> list[tuple[Any, Any]]:
        """A field of pairs, or none where it is missing.

        Pairs are lists of two, objects with the two keys, or one object of two parallel lists (Hugging Face).
        ``second`` are the names that the second key may have.
        """
        value = self.fields.get(field)
        if value is None:
            return []
        if isinstance(value, dict):
            other = next((name for name in second if name in value), second[0])
            columns = [self.as_list(f"{field}.{column}", value.get(column)) for column in (first, other)]
            if len(columns[0]) != len(columns[1]):
                raise self.error(field, f"{first} and {other} differ in length")
            return list(zip(*columns, strict=True))
        pairs = []
        for item in self.as_list(field, value):
            if isinstance(item, dict):
                item = [item.get(first), next((item[name] for name in second if name in item), None)]
            if not isinstance(item, list) or len(item) != 2:
                raise self.error(field, "must be a list of pairs")
            pairs.append((item[0], item[1]))
        return pairs

    def objects(self, field: str) -> list[dict[str, Any]]:
        """A field that is a list of objects."""
        values = self.as_list(field, self.fields.get(field))
        for value in values:
            self.as_object(field, value)
        return values

    def as_object(self, field: str, value: Any) -> dict[str, Any]:
        """``value`` if it is an object."""
        if not isinstance(value, dict):
            raise self.error(field, f"must be an object, got {type(value).__name__}")
        return value

    def as_list(self, field: str, value: Any) -> list[Any]:
        """``value`` if it is a list."""
        if not isinstance(value, list):
            raise self.error(field, f"must be a list, got {type(value).__name__}")
        return value

    def as_text(self, field: str, value: Any) -> str:
        """``value`` if it is text."""
        if not isinstance(value, str):
            raise self.error(field, f"must be text, got {type(value).__name__}")
        return value

    def as_texts(self, field: str, value: Any) -> tuple[str, ...]:
        """``value`` if it is a list of texts; every text once, in order."""
        return tuple(dict.fromkeys(self.as_text(field, item) for item in self.as_list(field, value)))

    def as_key(self, field: str, value: Any) -> str | int | None:
        """``value`` if it is text, a whole number or null: what other fields may refer to."""
        if not isinstance(value, str | int | None):
            raise self.error(field, f"must be text or a whole number, got {type(value).__name__}")
        return value

    def error(self, field: str, problem: str) -> DataError:
        """The error about a field, to be raised."""
        return DataError(f"{self.where}: field {field!r} {problem}")

    def id(self, split: str, *fields: str) -> str:
        """The first of the ``fields`` that is there, FlashRAG's ``id``, or ``SPLIT-INDEX``."""
        field = next((name for name in (*fields, "id") if name in self.fields), None)
        return f"{split}-{self.index}" if field is None else self.text(field)

    def answers(self, *fields: str) -> tuple[str, ...]:
        """FlashRAG's ``golden_answers``, or what the benchmark's own ``fields`` hold; every text once, in order."""
        if "golden_answers" in self.fields:
            return self.texts("golden_answers")
        found: list[str] = []
        for field in fields:
            value = self.fields.get(field)
            found += self.texts(field) if isinstance(value, list) else (self.text(field),)
        return tuple(dict.fromkeys(found))

    def chosen(self, *fields: str) -> dict[str, Any]:
        """Those of the fields that are there as text or whole numbers: metadata of a question."""
        return {field: self.fields[field] for field in fields if isinstance(self.fields.get(field), str | int)}


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are there: neither null nor an object of nulls, which is how a null struct is often written."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None and not (isinstance(value, dict) and value and all(v is None for v in value.values()))
    }


def records(path: Path) -> Iterator[Record]:
    """Stream the records of a file. Lines are counted from 1, records of an array or of a Parquet file from 0.

    Raises:
        DataError: the file cannot be read, or is not what its name and first characters say.
    """
    try:
        # A pipe or a device would be waited for, or never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: is no regular file")
        with path.open("rb") as stream:
            start = stream.read(256)
            _check_plain(path, start)
            stream.seek(len(_BOM) if start.startswith(_BOM) else 0)
            if start.startswith(_PARQUET):
                for index, row in enumerate(parquet.rows(path)):
                    yield Record(row, f"{path}, record {index}", index)
            elif path.suffix.lower() in (".csv", ".tsv"):
                yield from _table(path, stream, "\t" if path.suffix.lower() == ".tsv" else ",")
            elif start.removeprefix(_BOM).lstrip().startswith(b"["):
                yield from _array(path, stream, "item")
            elif _OBJECT_OF_RECORDS.match(start.removeprefix(_BOM)):
                yield from _array(path, stream, "Data.item")
            else:
                yield from _json_lines(path, stream)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_plain(path: Path, start: bytes) -> None:
    """Say what is to be done with a file that downloads often are."""
    packing = next((name for mark, name in _PACKED.items() if start.startswith(mark)), None)
    if packing:
        raise DataError(f"{path}: is {packing}; install what is in it with `at2po-agent data import {path}`")


def _array(path: Path, stream: BinaryIO, prefix: str) -> Iterator[Record]:
    index = 0
    values = ijson.items(stream, prefix, use_float=True, buf_size=_CHUNK)
    while True:
        try:
            value = next(values)
        except StopIteration:
            return
        except ijson.JSONError as error:
            raise DataError(f"{path}, at record {index}: not JSON: {_first_line(error)}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, at record {index}: half of a surrogate pair, which is no text") from error
        yield Record(value, f"{path}, record {index}", index)
        index += 1


def _first_line(error: ijson.JSONError) -> str:
    problem = error.args[0] if error.args else ""
    text = problem.decode("utf-8", "replace") if isinstance(problem, bytes) else str(problem)
    return text.partition("\n")[0]


def _json_lines(path: Path, stream: BinaryIO) -> Iterator[Record]:
    index = 0
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            value = read_json(line.decode())
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: not UTF-8 at byte {error.start}") from error
        except Unusable as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        yield Record(value, f"{path}, line {number}", index)
        index += 1


def _table(path: Path, stream: BinaryIO, delimiter: str) -> Iterator[Record]:
    rows = csv.reader(_decoded(path, stream), delimiter=delimiter, strict=True)
    columns: list[str] | None = None
    index = 0
    while True:
        where = f"{path}, line {rows.line_num + 1}"  # a quoted field may hold line breaks: named by its first line
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{where}: not a table with quoted fields: {error}") from error
        if columns is None:
            columns = row
        elif row:
            if len(row) != len(columns):
                raise DataError(f"{where}: {len(row)} fields instead of {len(columns)} ({', '.join(columns)})")
            yield Record(dict(zip(columns, row, strict=True)), where, index)
            index += 1


def _decoded(path: Path, stream: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: not UTF-8 at byte {error.start}") from error
