"""The connection to an MCP server: sessions on an event loop of their own, and what a call's result says.

The package ``mcp`` speaks the protocol (https://modelcontextprotocol.io/specification). It wants a client to be opened
and closed by one task, so each connection is a task that lives as long as it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

import anyio
import httpx2
import mcp
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CONNECTION_CLOSED, CallToolResult, EmbeddedResource, TextContent, TextResourceContents
from mcp.types import Tool as Described

from at2po_env.errors import EnvError, ToolUnavailable
from at2po_env.tools import ToolFault, result_text
from search_backend.background import BackgroundLoop
from search_backend.outside import shown
from search_backend.retry import RETRYABLE

MOST_TOOLS = 256
"""Tools that a server may have; every turn is looked through for the tag of each."""

_MOST_ERROR = 2000  # characters of an error that a server reports
_REFUSED = frozenset({401, 403})
_TAIL = 2000  # bytes of a server's stderr that are kept

T = TypeVar("T")


class Endpoint(Protocol):
    """A server that can be connected to."""

    @property
    def name(self) -> str:
        """What errors call it; it holds no secret."""
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
        response.raise_for_status()


class _Link:
    """One connection, from its first moment to its last; ``end`` is its reason once ``owner`` is done."""

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


class Sessions:
    """The sessions of one process with a server, on a thread of their own.

    Args:
        endpoint: the server.
        timeout: seconds for connecting, and for a call.
        closed: makes the error of calls after ``close``.
    """

    def __init__(self, endpoint: Endpoint, timeout: float, closed: Callable[[], Exception]) -> None:
        self.endpoint, self.timeout = endpoint, timeout
        self.loop = BackgroundLoop("mcp", closed)
        self._process = os.getpid()
        self._links: set[_Link] = set()
        self._leaving: set[asyncio.Task[None]] = set()

    async def link(self) -> _Link:
        """Connect.

        Raises:
            ToolUnavailable: the server cannot be reached.
        """
        link = _Link(self.endpoint)
        self._links.add(link)
        both: list[asyncio.Future[Any]] = [link.client, link.owner]
        await asyncio.wait(both, timeout=self.timeout, return_when=asyncio.FIRST_COMPLETED)
        if link.client.done() and not link.owner.done():
            return link
        late = not link.owner.done()
        await self.drop(link)
        why = f"no answer within {self.timeout:g} s" if late else "it ended at once"
        raise ToolUnavailable(f"{self.endpoint.name} cannot be reached: {link.end() or why}")

    async def drop(self, link: _Link) -> None:
        """Close a connection."""
        await link.close()
        self._links.discard(link)

    def leave(self, ending: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run what ends a session, without waiting. Takes no lock: garbage collection may call it anywhere."""

        def begin() -> None:
            task = asyncio.ensure_future(ending())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

        # Closed, it has no session left.
        with suppress(RuntimeError):
            self.loop.loop.call_soon_threadsafe(begin)

    def close(self) -> None:
        """End every session and the processes behind them; nothing in a fork."""
        if self._process != os.getpid() or self.loop.loop.is_closed():
            return
        # Before the loop cancels what is left, see _Link; on its own thread, where garbage collection may call this,
        # nobody can wait for that.
        if not self._on_loop():
            self.loop.run(self._end())
        self.loop.close()

    def _on_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self.loop.loop
        except RuntimeError:
            return False

    async def _end(self) -> None:
        await asyncio.gather(*map(self.drop, [*self._links]))


class Session:
    """One session with a server, connected at its first call.

    Args:
        sessions: those of this process.
        revives: whether it is connected again where it was lost, which brings back nothing that the server knew.
    """

    def __init__(self, sessions: Callable[[], Sessions], *, revives: bool) -> None:
        self._all, self._revives = sessions, revives
        self._process = os.getpid()
        self._link: asyncio.Task[_Link] | None = None
        self._lost = ""

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """Call a tool; its result as ``Tool`` functions return it.

        Raises:
            ToolFault: the server reports an error, or did not answer in time.
            ToolUnavailable: it cannot be reached, or is gone.
        """
        sessions = self._here()
        result = await sessions.loop.wait(self._ask(sessions, name, partial(_called, name, arguments)))
        if result.is_error:
            said = result_text(name, _pieces(result), _MOST_ERROR)
            raise ToolFault(f"{name}: {said}")
        return result.structured_content if not result.content and result.structured_content else _pieces(result)

    def described(self) -> tuple[str, list[Described]]:
        """The server's name and version, and its tools.

        Raises:
            ToolUnavailable: it cannot be reached, or is gone.
            EnvError: it has no tools, or too many.
        """
        sessions = self._here()
        try:
            return sessions.loop.run(self._ask(sessions, "tools/list", partial(_list, sessions.endpoint.name)))
        except ToolFault as error:
            raise ToolUnavailable(f"{sessions.endpoint.name} does not list its tools: {error}") from error

    def close(self) -> None:
        """End it, without waiting; nothing in a fork, whose parent goes on with it."""
        if self._process == os.getpid() and self._link is not None:
            with suppress(ToolUnavailable):
                sessions = self._all()
                sessions.leave(partial(self._leave, sessions))

    def _here(self) -> Sessions:
        if self._revives:
            if self._process != os.getpid():
                self._process, self._link = os.getpid(), None
        elif self._process != os.getpid():
            raise ToolUnavailable(f"the session of this episode belongs to process {self._process}, which was forked")
        return self._all()

    async def _ask(self, sessions: Sessions, what: str, ask: Callable[[Client], Awaitable[T]]) -> T:
        link = await self._linked(sessions)
        asking = asyncio.ensure_future(ask(link.client.result()))
        try:
            both: list[asyncio.Future[Any]] = [asking, link.owner]
            done, _ = await asyncio.wait(both, timeout=sessions.timeout, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise ToolFault(f"{what}: no result within {sessions.timeout:g} s")
            if asking.done() and not (asking.cancelled() or _is_end(asking.exception())):
                return asking.result()
        except mcp.MCPError as error:
            raise ToolFault(f"{what}: {error.message}"[:_MOST_ERROR]) from error
        except (RuntimeError, ValueError) as error:
            raise ToolFault(f"{what}: a result that is none: {' '.join(str(error).split())}"[:500]) from error
        finally:
            asking.cancel()
        await self._lose(sessions, link)
        raise ToolUnavailable(self._lost)

    async def _linked(self, sessions: Sessions) -> _Link:
        if self._lost and not self._revives:
            raise ToolUnavailable(self._lost)
        if self._link is None:
            self._link = asyncio.create_task(sessions.link())
        linking = self._link
        try:
            return await asyncio.shield(linking)
        except ToolUnavailable:
            if self._link is linking:
                self._link = None
            raise

    async def _lose(self, sessions: Sessions, link: _Link) -> None:
        await sessions.drop(link)
        self._lost = f"{sessions.endpoint.name} is gone: {link.end() or 'it closed the connection'}"
        if self._link is not None and self._link.done() and self._link.result() is link:
            self._link = None

    async def _leave(self, sessions: Sessions) -> None:
        if self._link is not None:
            link, self._link = self._link, None
            with suppress(ToolUnavailable):
                await sessions.drop(await link)


def _is_end(error: BaseException | None) -> bool:
    """Whether an error of a request says that there is no session any more."""
    if isinstance(error, mcp.MCPError):
        return error.code == CONNECTION_CLOSED or error.message == "Session terminated"
    return isinstance(error, anyio.ClosedResourceError | anyio.BrokenResourceError)


async def _called(name: str, arguments: dict[str, Any], client: Client) -> CallToolResult:
    return await client.call_tool(name, arguments)


async def _list(server: str, client: Client) -> tuple[str, list[Described]]:
    tools: list[Described] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if len(tools) > MOST_TOOLS or (cursor is not None and not page.tools):
            raise EnvError(f"{server} lists more than {MOST_TOOLS} tools, or never ends listing them")
        if cursor is None:
            break
    if not tools:
        raise EnvError(f"{server} has no tools")
    info = client.server_info
    return (f"{shown(info.name)} {shown(info.version)}" if info else ""), tools


def _pieces(result: CallToolResult) -> Iterator[str]:
    """The text of a result; of what is no text, what it is."""
    for place, block in enumerate(result.content):
        if place:
            yield "\n"
        if isinstance(block, TextContent):
            yield block.text
        elif isinstance(block, EmbeddedResource) and isinstance(block.resource, TextResourceContents):
            yield block.resource.text
        else:
            yield f"[{block.type}]"
