"""Replace files and folders as a whole: after a crash or on a full disk the old one is there, or none."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from at2po_agent.errors import AgentError

_TEMPORARY = ".tmp-"
_REMOVED = ".removed-"


class DiskError(AgentError, OSError):
    """Something could not be written; the message says where, why and how much space is left."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong on the disk into one :class:`DiskError`."""
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror or error} ({_free_megabytes(path)})") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file ``path``: it holds the old bytes or the new ones, whatever happens."""
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    with writing(path):
        try:
            with writing(path), open(temporary, "wb", buffering=0) as file:  # says how full it was before the clean-up
                write_all(file, data)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Replace the text file ``path`` (UTF-8), as :func:`write_bytes` does."""
    write_bytes(path, text.encode())


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that becomes ``path`` when the block ends well, and is removed if not.

    Every file in it is on the disk before the name appears. ``path`` may be an empty folder, or not exist.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{_TEMPORARY}{path.name}")
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        temporary.mkdir()
        try:
            with writing(path):  # says how full it was before the clean-up
                yield temporary
                for entry in [*temporary.rglob("*"), temporary]:
                    _sync(entry)
                os.replace(temporary, path)
                _sync(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def remove_directories(parent: Path, paths: Iterable[Path]) -> None:
    """Remove folders in ``parent``: their names are gone before anything in them is.

    Those that an earlier call was killed at are removed too.

    Raises:
        DiskError: one cannot be removed.
    """
    with writing(parent):
        for path in paths:
            os.replace(path, parent / f"{_REMOVED}{path.name}")
        for folder in parent.glob(f"{_REMOVED}*"):
            shutil.rmtree(folder)


def write_all(file: io.FileIO, data: bytes) -> None:
    """Write every byte: a raw write may take only part of them, as it does on a disk that fills up."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free_megabytes(path: Path) -> str:
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    return f"{shutil.disk_usage(existing).free / 1e6:,.0f} MB free there"


def plain_json(value: Any) -> Any:
    """Plain JSON values; numbers that are not finite as null.

    Raises:
        TypeError: it is neither a plain value, a mapping, a sequence, a dataclass nor a scalar of numpy or torch.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain_json(dataclasses.asdict(value))
    if hasattr(value, "item"):
        return plain_json(value.item())
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")
