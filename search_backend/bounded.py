"""Bounds on what a service may send: the size of an answer, unpacked, and the shape of JSON."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import aiohttp

ANSWER_BYTES = 64 << 20
"""Most bytes of an answer, after it is decompressed. Ten thousand passages of Wikipedia are 6 MB."""

ERROR_BYTES = 64 << 10
"""Bytes of an error's body that are read; the rest is left where it is."""


class TooLong(aiohttp.ClientPayloadError):
    """An answer has more than ``ANSWER_BYTES``."""


class BoundedResponse(aiohttp.ClientResponse):
    """A response with a bounded body: the response class of a ``ClientSession``, whose timeout bounds the time."""

    async def read(self) -> bytes:
        """Read the whole body, or the beginning of an error's.

        Raises:
            TooLong: The body has more than ``ANSWER_BYTES``; the connection is closed.
        """
        limit = ERROR_BYTES if self.status >= 400 else ANSWER_BYTES
        body = bytearray()
        # aiohttp decompresses in steps of bounded size, and no faster than this loop takes them.
        async for part in self.content.iter_any():
            body += part
            if len(body) > limit:
                self.close()
                if self.status < 400:
                    raise TooLong(f"the answer has more than {ANSWER_BYTES >> 20} MiB")
                break
        return bytes(body[:limit])


def read_json(content: bytes) -> Any:
    """Parse JSON as its standard defines it: numbers are finite, and text can be written as UTF-8.

    Raises:
        ValueError: It is no JSON, or is nested too deep.
    """
    try:
        text = content.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        # An escaped half of a surrogate pair is no character: it could be neither stored nor shown.
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("JSON that is nested too deep") from error
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:40]} is too large")
    return number
