"""One connection to an MCP server: how it is opened, over stdio or streamable HTTP, and why it ended.

The package ``mcp`` speaks the protocol (https://modelcontextprotocol.io/specification). It wants a client to be opened
and closed by one task, so a connection is a task that lives as long as it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio
import httpx2
import mcp
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from search_backend.retry import RETRYABLE

_REFUSED = frozenset({401, 403})
_TAIL = 2000  # bytes of a server's stderr that are kept


class Endpoint(Protocol):
    """A server that can be connected to."""

    @property
    def name(self) -> str:
        """Its name in error messages; it holds no secret."""
        ...

    def connect(self, last_words: list[str]) -> AbstractAsyncContextManager[Client]:
        """Open a client; on the way out, add what the server said of its end to ``last_words``."""
        ...


@dataclass(frozen=True)
class Stdio:
    """A server that is a process of ours, spoken to over its standard input and output."""

    command: Sequence[str]
    env: Mapping[str, str] | None = field(default=None, repr=False)
    cwd: str | None = None

    @property
    def name(self) -> str:
        """Its command."""
        return f"the MCP server {' '.join(self.command)!r:.120}"

    @asynccontextmanager
    async def connect(self, last_words: list[str]) -> AsyncIterator[Client]:
        """Start the process; it ends with the client."""
        program, *arguments = self.command
        env = None if self.env is None else dict(self.env)
        server = mcp.StdioServerParameters(command=program, args=arguments, env=env, cwd=self.cwd)
        reading, writing = os.pipe()
        tail = _Tail()
        await asyncio.get_running_loop().connect_read_pipe(lambda: tail, os.fdopen(reading, "rb"))
        with os.fdopen(writing, "w") as stderr:
            try:
                async with Client(mcp.stdio_client(server, errlog=stderr)) as client:
                    stderr.close()
                    yield client
            finally:
                stderr.close()
                # Whoever closes the connection has cancelled what comes here.
                with anyio.CancelScope(shield=True):
                    await tail.end()
                last_words.extend(tail.text.split("\n")[-1:])


class _Tail(asyncio.Protocol):
    """The end of what a process writes, read all the time so that it never waits for a reader."""

    def __init__(self) -> None:
        self._last = b""
        self._over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._last = (self._last + data)[-_TAIL:]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over.done():
            self._over.set_result(None)

    async def end(self) -> None:
        """Wait for the end of what was written, which a child of the process may put off, and stop reading."""
        await asyncio.wait([self._over], timeout=0.2)
        self._transport.close()

    @property
    def text(self) -> str:
        return self._last.decode("utf-8", "replace").strip()


@dataclass(frozen=True)
class Http:
    """A server elsewhere, spoken to over streamable HTTP."""

    url: str = field(repr=False)
    shown_url: str
    headers: Mapping[str, str] = field(repr=False)
    sessions: bool  # whether the server is to keep a session; newer protocols have none

    @property
    def name(self) -> str:
        """Its address."""
        return f"the MCP server at {self.shown_url}"

    @asynccontextmanager
    async def connect(self, last_words: list[str]) -> AsyncIterator[Client]:
        """Open connections."""
        hooks: dict[str, list[Callable[..., Any]]] = {"response": [_check_status]}
        timeout = httpx2.Timeout(30.0, read=None)
        async with httpx2.AsyncClient(headers=dict(self.headers), timeout=timeout, event_hooks=hooks) as http:
            transport = streamable_http_client(self.url, http_client=http)
            async with Client(transport, mode="legacy" if self.sessions else "auto") as client:
                yield client


async def _check_status(response: httpx2.Response) -> None:
    """Let a proxy's refusal end the connection; one in JSON is the server's, and a tool's error."""
    json = response.headers.get("content-type", "").startswith("application/json")
    if response.status_code in _REFUSED or (response.status_code in RETRYABLE and not json):
        # Without the address, which may hold a password.
        raise httpx2.HTTPStatusError(f"HTTP {response.status_code}", request=response.request, response=response)


class Link:
    """One connection, from its first moment to its last.

    ``client`` is ready once it stands, and ``owner`` is done once it has ended, for the reason ``end()``.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._scope = anyio.CancelScope()
        self._last_words: list[str] = []
        self.client: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self.owner = asyncio.create_task(self._live())

    async def _live(self) -> None:
        # The library's own scopes shield the end of a process; a plain cancel() of the task would break through them.
        with self._scope:
            async with self._endpoint.connect(self._last_words) as client:
                self.client.set_result(client)
                await anyio.sleep_forever()

    async def close(self) -> None:
        """End it, and wait for that."""
        self._scope.cancel()
        await asyncio.wait([self.owner])
        if not self.owner.cancelled():
            self.owner.exception()

    def end(self) -> str:
        """Why it ended, in one line."""
        error = None if self.owner.cancelled() else self.owner.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        reasons = [] if error is None else [str(error) or type(error).__name__]
        return "; ".join(" ".join(reason.split()) for reason in (*reasons, *self._last_words) if reason)[:500]
