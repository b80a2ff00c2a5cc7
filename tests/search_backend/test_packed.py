"""Contents of zstd files, in parts that have a bound."""

from __future__ import annotations

import io

import pytest
import zstandard

from search_backend.packed import unpack_zstd


def test_frames_follow_each_other_as_one() -> None:
    texts = [b"one\n" * 5000, b"", b"two\n"]
    packed = b"".join(zstandard.compress(text) for text in texts)
    assert b"".join(unpack_zstd(io.BytesIO(packed))) == b"".join(texts)


def test_what_is_cut_off_or_is_not_packed_is_an_error() -> None:
    packed = zstandard.compress(bytes(range(256)) * 50)
    with pytest.raises(EOFError, match="in the middle of a frame"):
        list(unpack_zstd(io.BytesIO(packed[:-3])))
    with pytest.raises(zstandard.ZstdError):
        list(unpack_zstd(io.BytesIO(b"plain text")))


@pytest.mark.fault("item 25: a stored file that unpacks to gigabytes")
def test_parts_of_a_bomb_are_small() -> None:
    packer = zstandard.ZstdCompressor(level=19).compressobj()
    zeros = bytes(2**20)
    packed = b"".join(packer.compress(zeros) for _ in range(128)) + packer.flush()
    assert len(packed) < 16_384
    sizes = [len(part) for part in unpack_zstd(io.BytesIO(packed))]
    assert sum(sizes) == 128 * 2**20 and max(sizes) <= 32 * 2**20
