"""Addresses of snapshots, as a chain of digests, and their JSON form, of which every part is checked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, get_args

from at2po_env.errors import SnapshotError


class Snapshot(Protocol):
    """An episode at some turn, addressed by its content."""

    @property
    def digest(self) -> str:
        """SHA-256 hex digest over everything that the episode is."""
        ...


S = TypeVar("S", bound=Snapshot)


def chain(*parts: str) -> str:
    """SHA-256 hex digest over strings with their lengths in UTF-8, so that no two lists of strings run together."""
    joined = "".join([f"{len(part)}:{part}" for part in parts])
    if joined.isascii():  # a string is as long as its bytes
        data = joined.encode()
    else:
        encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
        data = b"".join([b"%d:%b" % (len(part), part) for part in encoded])
    return hashlib.sha256(data).hexdigest()


def read_form(data: Mapping[str, Any], form: str, rebuild: Callable[[], S]) -> S:
    """Rebuild a snapshot from its JSON form, and check it against the digest in that.

    Args:
        data: the JSON form, with ``format`` and ``digest``.
        form: the format that is read.
        rebuild: makes the snapshot of ``data``, by ``typed``, ``finite`` and ``one_of``.

    Raises:
        SnapshotError: a field is missing or of the wrong type, or the content does not match the digest.
    """
    try:
        if data["format"] != form:
            raise SnapshotError(f"snapshot: format is {data['format']!r}, this version reads {form!r}")
        snapshot, stated = rebuild(), data["digest"]
    except SnapshotError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        said = f"{type(error).__name__}: {error}"[:300]
        raise SnapshotError(f"snapshot: not the JSON form of an episode ({said})") from error
    if snapshot.digest != stated:
        raise SnapshotError(
            f"snapshot: its content has digest {snapshot.digest}, but it says {stated!r:.80}: it was changed"
        )
    return snapshot


def typed(value: Any, *kinds: type) -> Any:
    """The value, if it is of one of these types exactly: ``True`` is no ``int``.

    Raises:
        TypeError: it is not.
    """
    if type(value) not in kinds:
        raise TypeError(f"{value!r:.80} is not {' or '.join(kind.__name__ for kind in kinds)}")
    return value


def finite(value: Any) -> float:
    """The value as a float.

    Raises:
        TypeError: it is no number, or not a finite one.
    """
    if not math.isfinite(typed(value, float, int)):
        raise TypeError(f"{value!r} is not a finite number")
    return float(value)


def one_of(value: Any, names: Any) -> Any:
    """The value, if it is one of the names of a ``Literal``.

    Raises:
        TypeError: it is not.
    """
    if value not in get_args(names):
        raise TypeError(f"{value!r:.80} is not one of {get_args(names)}")
    return value
