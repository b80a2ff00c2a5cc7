"""Files packed with zstd, unpacked in parts of a bounded size: a few kilobytes can stand for gigabytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import zstandard

_PACKED = 1 << 10  # bytes unpacked at once: a block of at least 4 bytes stands for at most 128 kB, so these for 32 MB


def unpack_zstd(stream: BinaryIO) -> Iterator[bytes]:
    """The contents in parts of at most 32 MB; frames follow each other as if they were one.

    Raises:
        EOFError: The file ends in the middle of a frame (zstandard's own readers take it for whole).
        zstandard.ZstdError: It is not packed with zstd, or damaged.
    """
    frame: Any = None
    while data := stream.read(_PACKED):
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(data)
            data = frame.unused_data if frame.eof else b""
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError("the file ends in the middle of a frame")
