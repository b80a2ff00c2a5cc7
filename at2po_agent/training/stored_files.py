"""Read what runs have stored, line by line or as a whole, and check it against the type that it was written as."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, Strict, TypeAdapter, ValidationError

from search_backend.outside import MOST_COUNT, MOST_FILE, Unusable, open_file, read_file, read_json, shown
from search_backend.packed import unpack_zstd

T = TypeVar("T")

_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}  # by type: one takes milliseconds to make

Count = Annotated[int, Strict(), Field(ge=0, le=MOST_COUNT)]
"""A whole number from 0, in a type that ``fitting`` takes."""

Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
"""A finite number, in a type that ``fitting`` takes."""

Share = Annotated[float, Strict(), Field(ge=0, le=1)]
"""A number from 0 to 1, in a type that ``fitting`` takes."""


def read_value(file: Path, check: Callable[[Any], T]) -> T:
    """Read a JSON file.

    Args:
        file: its path.
        check: turns the value into what is returned, or raises ``Unusable``.

    Raises:
        FileNotFoundError: there is none.
        Unusable: it cannot be read, or is not what it has to be; the message begins with its path.
    """
    try:
        return check(read_json(read_file(file)))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(file, error) from error
    except Unusable as error:
        raise Unusable(f"{file}: {error}") from error


def read_lines(file: Path, check: Callable[[Any], T], what: str) -> Iterator[T]:
    """Read a file of JSON lines as far as its last line feed: what follows was torn by a kill.

    Args:
        file: its path.
        check: see ``read_value``; of one line.
        what: a line is, for messages: "an episode record".

    Raises:
        FileNotFoundError: there is none.
        Unusable: it cannot be read, or a line is not what it has to be; the message begins with path and line number.
    """
    try:
        with open_file(file) as lines:
            yield from parse_lines(file, (line for line in lines if line.endswith(b"\n")), check, what)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(file, error) from error


def read_packed(file: Path, most: int = MOST_FILE) -> bytes:
    """Unpack a file that was packed with zstd.

    Raises:
        OSError: it cannot be read.
        EOFError: it is cut off, or unpacks to more than ``most`` bytes.
        zstandard.ZstdError: it is damaged.
    """
    unpacked = bytearray()
    with open_file(file) as packed:
        for part in unpack_zstd(packed):
            unpacked += part
            if len(unpacked) > most:
                raise EOFError(f"it unpacks to more than {most:,} bytes")
    return bytes(unpacked)


def parse_lines(file: Path, lines: Iterable[bytes], check: Callable[[Any], T], what: str) -> Iterator[T]:
    """The values of the JSON lines of a file; arguments as of ``read_lines``.

    Raises:
        Unusable: see ``read_lines``.
    """
    for number, line in enumerate(lines, start=1):
        try:
            value = check(read_json(line))
        except Unusable as error:
            raise Unusable(f"{file}:{number}: not {what}: {error}") from error
        yield value


def fitting(value: object, kind: type[T]) -> T:
    """The value as an instance of a type: a dataclass, a ``TypedDict``, or containers of them.

    Raises:
        Unusable: it does not fit; the message names the first part that does not.
    """
    try:
        made: T = _adapter(kind).validate_python(value)
        return made
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))[:200]
        said = f"{first['msg'][:1].lower()}{first['msg'][1:]}, not {shown(first['input'])}"
        if first["type"] == "value_error":  # a check of the type's own, which says it all
            said = str(first["ctx"]["error"])
        raise Unusable(f"{where}{': ' if where else ''}{said}") from None


def unchanged(kind: Any) -> Callable[[Any], Any]:
    """A check that leaves values as they are, with keys in their order and those that the type does not name."""

    def check(value: Any) -> Any:
        fitting(value, kind)
        return value

    return check


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _unreadable(file: Path, error: OSError) -> Unusable:
    return Unusable(f"{file}: cannot be read: {error.strerror or error}")
