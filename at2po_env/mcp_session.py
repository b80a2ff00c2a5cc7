"""Sessions with an MCP server on an event loop of their own, and what the result of a call says."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import anyio
import mcp
from mcp.client import Client
from mcp.types import CONNECTION_CLOSED, CallToolResult, EmbeddedResource, TextContent, TextResourceContents
from mcp.types import Tool as Described

from at2po_env.errors import EnvError, ToolUnavailable
from at2po_env.mcp_link import Endpoint, Link
from at2po_env.tools import ToolFault, result_text
from search_backend.background import BackgroundLoop
from search_backend.outside import shown

MOST_TOOLS = 256
"""Tools that a server may have; every turn is looked through for the tag of each."""

_MOST_ERROR = 2000  # characters of an error that a server reports

T = TypeVar("T")


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
        self._links: set[Link] = set()
        self._leaving: set[asyncio.Task[None]] = set()

    async def link(self) -> Link:
        """Connect.

        Raises:
            ToolUnavailable: the server cannot be reached.
        """
        link = Link(self.endpoint)
        self._links.add(link)
        both: list[asyncio.Future[Any]] = [link.client, link.owner]
        await asyncio.wait(both, timeout=self.timeout, return_when=asyncio.FIRST_COMPLETED)
        if link.client.done() and not link.owner.done():
            return link
        late = not link.owner.done()
        await self.drop(link)
        why = f"no answer within {self.timeout:g} s" if late else "it ended at once"
        raise ToolUnavailable(f"{self.endpoint.name} cannot be reached: {link.end() or why}")

    async def drop(self, link: Link) -> None:
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
        # Before the loop cancels what is left, see Link; on its own thread, where garbage collection may call this,
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
        self._link: asyncio.Task[Link] | None = None
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
            raise ToolFault(f"{what}: an invalid result: {' '.join(str(error).split())}"[:500]) from error
        finally:
            asking.cancel()
        await self._lose(sessions, link)
        raise ToolUnavailable(self._lost)

    async def _linked(self, sessions: Sessions) -> Link:
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

    async def _lose(self, sessions: Sessions, link: Link) -> None:
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
