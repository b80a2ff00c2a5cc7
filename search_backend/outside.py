"""Read what comes from outside (answers of services, stored files) within bounds, so that later code can trust it.

Whatever is wrong is an ``Unusable``; who knows the source turns it into an error that names it.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import zlib
from collections.abc import AsyncIterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

ERROR_BYTES = 64 * 1024
"""Bytes that are read of an error's body; the rest is not waited for."""

MOST_FILE = 2**30
"""Bytes of a stored file that is read as a whole, and of what it unpacks to."""

MOST_DEPTH = 100
"""Lists and objects inside each other in JSON; Python cannot write or walk what is nested much deeper."""

MOST_COUNT = 2**53 - 1
"""The largest count: sums and shares of counts are floats, which hold every whole number up to this one."""

# Servers write -9999 or the lowest float32 for a probability of 0, and half precision rounds 0 up.
_LEAST_LOGPROB, _MOST_LOGPROB = -1e39, 0.1
_MOST_DIGITS = 300  # a float holds whole numbers of 308 digits
_SURROGATE = re.compile("[\ud800-\udfff]")


class Unusable(ValueError):
    """Something from outside is not what it has to be; the message says why in one line."""


def read_fields(data: bytes) -> Any:
    """Parse JSON of which only known fields are read, each through one of the checks here.

    Ten times as fast as ``read_json``, which it falls back to: the rest may be nested deeper, and whole numbers beyond
    64 bits are floats.

    Raises:
        Unusable: It is no JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return read_json(data)


def read_json(data: bytes | str) -> Any:
    """Parse JSON whose values can be written, encoded and turned into floats again.

    Lone surrogates become U+FFFD. ``NaN`` and infinities pass, as ``finite`` and ``count`` refuse them.

    Raises:
        Unusable: It is no JSON, or is nested deeper than ``MOST_DEPTH``, or has a whole number that no float holds.
    """
    try:
        text = data if isinstance(data, str) else data.decode(json.detect_encoding(data), "surrogatepass")
        value = json.loads(text.removeprefix("\ufeff"), parse_int=_whole)
    except RecursionError:
        raise Unusable(f"JSON nested deeper than {MOST_DEPTH}") from None
    except UnicodeDecodeError as error:
        raise Unusable(f"not text in {error.encoding} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise Unusable(f"not JSON: {error}") from None
    _check_depth(value)
    # Looked for in the text, as a walk over all values is slow.
    return _clean(value) if "\\ud" in text or "\\uD" in text or _SURROGATE.search(text) else value


def well_formed(text: str) -> str:
    """``text`` with surrogate pairs joined and lone surrogates replaced by U+FFFD, so that it has a UTF-8 form."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def count(value: object, name: str) -> int:
    """A whole number from 0 to ``MOST_COUNT``, also where it is written as 12.0.

    Raises:
        Unusable: It is none; the message has its ``name``.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_COUNT:
        raise Unusable(f"{name} is no count but {shown(value)}")
    return value


def finite(value: object, name: str, most: float = math.inf) -> float:
    """A number that is finite and not above ``most``.

    Raises:
        Unusable: It is none; the message has its ``name``.
    """
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number > most:
        bound = "" if most == math.inf else f" up to {most:g}"
        raise Unusable(f"{name} is no finite number{bound} but {shown(value)}")
    return number


def logprob(value: object, name: str) -> float:
    """The log-probability of a token in nats: at most 0, or what rounding makes of it.

    Raises:
        Unusable: It is none; the message has its ``name``.
    """
    number = finite(value, name, most=_MOST_LOGPROB)
    if number < _LEAST_LOGPROB:
        raise Unusable(f"{name} is no log-probability but {shown(value)}")
    return number


def counts(values: Sequence[object], name: str) -> tuple[int, ...]:
    """``count`` of every value; quick where they are what they should be."""
    if set(map(type, values)) == {int}:
        whole = cast("Sequence[int]", values)
        if min(whole) >= 0 and max(whole) <= MOST_COUNT:
            return tuple(whole)
    return tuple(count(value, name) for value in values)


def logprobs(values: Sequence[object], name: str) -> tuple[float, ...]:
    """``logprob`` of every value; quick where they are what they should be."""
    if set(map(type, values)) == {float}:
        numbers = cast("Sequence[float]", values)
        if all(map(math.isfinite, numbers)) and min(numbers) >= _LEAST_LOGPROB and max(numbers) <= _MOST_LOGPROB:
            return tuple(numbers)
    return tuple(logprob(value, name) for value in values)


def shown(value: object) -> str:
    """The start of a value's representation, for a message."""
    text = ascii(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}…"


class Body:
    """A body that comes in parts, unpacked as they come.

    Args:
        encoding: Its ``Content-Encoding``: none, gzip or zlib's deflate. Ask for no other, as what they unpack to has
            no bound.
        most: Bytes that it may have, unpacked.

    Raises:
        Unusable: Another encoding.
    """

    def __init__(self, encoding: str, most: int) -> None:
        self.data = bytearray()
        self._most, self._begun = most, False
        name = encoding.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise Unusable(f"the answer is packed in a way that was not asked for ({shown(encoding)})")
        # 32 + 15: zlib or gzip, as the first bytes say.
        self._unpack = None if name in ("", "identity") else zlib.decompressobj(47)

    def add(self, part: bytes) -> None:
        """Add what came next.

        Raises:
            Unusable: The body is too long, which leaves its start in ``data``, or is not packed as it says.
        """
        self._begun |= bool(part)
        room = self._most - len(self.data)
        try:
            plain = part if self._unpack is None else self._unpack.decompress(part, room + 1)
        except zlib.error as error:
            raise Unusable(f"the answer cannot be unpacked: {error}") from None
        self.data += plain[:room]
        if len(plain) > room:
            raise Unusable(f"the answer is longer than {self._most:,} bytes")

    def end(self) -> bytes:
        """All of it, once nothing more comes.

        Raises:
            Unusable: A packed body ended early.
        """
        if self._unpack is not None and not self._unpack.eof and self._begun:
            raise Unusable("the answer cannot be unpacked: it ends early")
        return bytes(self.data)


async def read_body(parts: AsyncIterable[bytes], encoding: str, most: int) -> bytes:
    """Read a whole body; the caller has the deadline.

    Args:
        parts: As they came over the wire.
        encoding: See ``Body``.
        most: Bytes, unpacked.

    Raises:
        Unusable: It is longer, or is not packed as it says.
    """
    body = Body(encoding, most)
    async for part in parts:
        body.add(part)
    return body.end()


async def read_error_body(parts: AsyncIterable[bytes], encoding: str) -> bytes:
    """Read the first ``ERROR_BYTES`` of an error's body, as much of it as can be unpacked."""
    try:
        body = Body(encoding, ERROR_BYTES)
    except Unusable:
        return b""
    with suppress(Unusable):
        async for part in parts:
            body.add(part)
    return bytes(body.data)


def read_file(path: Path, most: int = MOST_FILE) -> bytes:
    """Read a regular file: a pipe would be waited for, and a device may never end.

    Raises:
        OSError: It cannot be read, is no regular file, or has more than ``most`` bytes.
    """
    with open_file(path) as file:
        # Asked before they are read: a file with holes has any size, and takes no room on the disk.
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(f"{path} has more than {most:,} bytes")
        return file.read(most)


def open_file(path: Path) -> BinaryIO:
    """Open a regular file to read its bytes.

    Raises:
        OSError: See ``read_file``.
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 (the caller closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path} is no regular file")
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise Unusable(f"a number of {len(digits):,} digits")
    return int(digits)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_DEPTH):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
        if not level:
            return
    raise Unusable(f"JSON nested deeper than {MOST_DEPTH}")


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [_clean(entry) for entry in value]
    if isinstance(value, dict):
        return {well_formed(key): _clean(entry) for key, entry in value.items()}
    return value
