"""Records of a W&B run that was made offline: a log in LevelDB's format, of protocol buffers.

https://github.com/google/leveldb/blob/main/doc/log_format.md, behind a header of seven bytes.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HEADER, _BLOCK = 7, 32 * 1024
_FULL, _FIRST, _LAST = 1, 2, 4


def records(file: Path) -> Iterator[Any]:
    """Every record of one ``.wandb`` file, as the package's own type of them."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = file.read_bytes(), _HEADER, b""
    while at + 7 <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        part, at = data[at + 7 : at + 7 + length], at + 7 + length
        whole = part if kind in (_FULL, _FIRST) else whole + part
        if kind in (_FULL, _LAST):
            record = Record()
            record.ParseFromString(whole)
            yield record


def history(file: Path, patience: float = 60.0) -> dict[int, dict[str, str]]:
    """The rows of a run by their places; values as JSON, names of nested ones with a slash.

    Its end is waited for: the package's own process writes on after ``finish`` has returned.
    """
    until = time.monotonic() + patience
    while not any(record.WhichOneof("record_type") == "exit" for record in records(file)):
        assert time.monotonic() < until, f"{file} has no end"
        time.sleep(0.05)
    rows = [record.history for record in records(file) if record.WhichOneof("record_type") == "history"]
    return {row.step.num: {item.key or "/".join(item.nested_key): item.value_json for item in row.item} for row in rows}
