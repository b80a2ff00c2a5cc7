"""HTTP to one SGLang server or router: JSON out, JSON or a stream of it in, and failures as a policy's errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import aiohttp
import orjson

from at2po_agent.policy.base import PolicyError, PolicyUnavailable
from search_backend.open_files import limit_reached
from search_backend.outside import Unusable, read_body, read_error_body, read_fields, read_json, shown
from search_backend.retry import RETRYABLE

Told = TypeVar("Told")

_CONNECT_S = 5.0
_PROBE_S = 10.0
_MOST_BYTES = 256 * 1024 * 1024  # of one answer; 20 likely tokens at each of 100,000 positions are less
# Unpacked, so that the bound on an answer's bytes is one on memory.
_HEADERS = {"Accept-Encoding": "identity", "Content-Type": "application/json"}


class NoAnswer(PolicyUnavailable):
    """The server took a request and said nothing in time."""


class BadAnswer(PolicyUnavailable):
    """The server answered what cannot be trained on; another try, or another server, may do better."""


class Transport:
    """Requests to one address.

    Each raises:

    * PolicyError: the server refuses it; ``where`` stands in the message.
    * BadAnswer: the answer cannot be read.
    * PolicyUnavailable: no connection, no answer in time (``NoAnswer``), or the server is in trouble.

    Args:
        url: ``http://HOST:PORT``.
        session: of the event loop that everything here runs on.
        timeout: seconds that a POST may go without an answer once it is sent; a GET has ten.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, timeout: float) -> None:
        self.url = url.rstrip("/")
        self._session, self._timeout = session, timeout

    async def get(self, path: str) -> Any:
        """The answer's JSON, or its text where it is none."""
        return await self._ask("GET", path, "", _whole, _PROBE_S)

    async def post(self, path: str, body: Mapping[str, Any], where: str = "") -> Any:
        """The answer's JSON, or its text where it is none."""
        return await self._ask("POST", path, where, _whole, self._timeout, orjson.dumps(body))

    async def stream(self, path: str, body: Mapping[str, Any], take: Callable[[Any], bool]) -> None:
        """Give ``take`` the JSON of every event of a streamed answer as it comes, until the stream ends.

        ``take`` says whether the event was one that is waited for: the time without an answer begins anew then.
        """

        async def each(response: aiohttp.ClientResponse, silence: asyncio.Timeout) -> None:
            loop = asyncio.get_running_loop()
            async for event in _events(response.content.iter_any()):
                if take(read_fields(event)):
                    silence.reschedule(loop.time() + self._timeout)

        await self._ask("POST", path, "", each, self._timeout, orjson.dumps(body))

    async def tell(self, path: str, body: Mapping[str, Any]) -> None:
        """POST what needs no answer; a server that cannot be told is left alone."""
        timeout = aiohttp.ClientTimeout(total=_CONNECT_S)
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.post(self.url + path, json=body, timeout=timeout):
                pass

    async def _ask(
        self,
        method: str,
        path: str,
        where: str,
        read: Callable[[aiohttp.ClientResponse, asyncio.Timeout], Awaitable[Told]],
        seconds: float,
        data: bytes | None = None,
    ) -> Told:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=seconds)
        try:
            async with self._session.request(
                method, self.url + path, headers=_HEADERS, allow_redirects=False, data=data, timeout=timeout
            ) as response:
                # The timeout of the session is of each part that arrives: an answer that trickles in is never silent.
                async with asyncio.timeout(seconds) as silence:
                    await self._check(response, where)
                    return await read(response, silence)
        except TimeoutError as error:
            raise NoAnswer(f"{self.url} gave no answer in {seconds:.0f} s") from error
        except aiohttp.ClientError as error:
            why = limit_reached(error) or error or type(error).__name__
            raise PolicyUnavailable(f"{self.url} cannot be reached: {why}") from error
        except Unusable as error:
            raise BadAnswer(f"{self.url}{path}: {error}") from error

    async def _check(self, response: aiohttp.ClientResponse, where: str) -> None:
        if response.status in RETRYABLE:
            raise PolicyUnavailable(f"{self.url} answers {response.status}: {await _message(response)}")
        if moved := response.headers.get("Location"):
            raise PolicyError(f"{self.url} sends requests on to {shown(moved)}: give that address in engine.urls")
        if response.status != 200:
            about = f"{where}: " if where else ""
            raise PolicyError(f"{about}{self.url} answers {response.status}: {await _message(response)}")


async def _whole(response: aiohttp.ClientResponse, _: asyncio.Timeout) -> Any:
    body = await read_body(response.content.iter_any(), "", _MOST_BYTES)
    return read_fields(body) if response.content_type == "application/json" else body.decode(errors="replace")


async def _events(parts: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The data of server-sent events as SGLang writes them, each ``data: JSON`` and an empty line, up to the last.

    Raises:
        Unusable: it is something else, or one of them is longer than ``_MOST_BYTES``.
    """
    left = bytearray()
    async for part in parts:
        begin = max(0, len(left) - 1)
        left += part
        while (end := left.find(b"\n\n", begin)) >= 0:
            event, begin = bytes(left[:end]), 0
            del left[: end + 2]
            if not event.startswith(b"data: "):
                raise Unusable(f"no event but {shown(event[:60].decode(errors='replace'))}")
            if event == b"data: [DONE]":
                async for _ in parts:
                    pass  # to the very end, so that the connection can be used again
                return
            yield event[6:]
        if len(left) > _MOST_BYTES:
            raise Unusable(f"an event longer than {_MOST_BYTES:,} bytes")


async def _message(response: aiohttp.ClientResponse) -> str:
    """The reason in an error's body, which is an object or a string depending on the layer that refused."""
    body = await read_error_body(response.content.iter_any(), "")
    try:
        told = read_json(body)
    except Unusable:
        return " ".join(body.decode(errors="replace").split())[:300] or str(response.reason)
    while isinstance(told, dict):
        told = told.get("error") or told.get("message") or told.get("detail") or "no reason given"
    return " ".join(str(told).split())[:500]
