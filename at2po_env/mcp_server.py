"""``McpServer``: the tools of an MCP server, as a ``ToolEnv`` takes them.

.. code-block:: python

    with McpServer.stdio(["python", "server.py"], stateless=True) as server:
        env = ToolEnv(server.tools(), tasks, reward)
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from at2po_env.errors import EnvError, ToolUnavailable
from at2po_env.mcp_schema import BadTool, tool_arguments, tool_description, tool_name
from at2po_env.tool_sessions import ToolSession
from at2po_env.tools import Tool
from search_backend.base import split_uri
from search_backend.forks import PerProcess

if TYPE_CHECKING:  # the package mcp is an extra
    from mcp.types import Tool as Described

    from at2po_env.mcp_link import Endpoint
    from at2po_env.mcp_session import Session, Sessions


class McpServer:
    """A server that speaks the Model Context Protocol. ``stdio`` and ``http`` make one.

    An MCP server may keep a state of a session, which nobody can copy. So every episode gets a session of its own: a
    process of its own over stdio. Such an episode can be played, evaluated and grown as a chain, and a fork of it is a
    ``ForkError``, unless one of these is said of the server:

    - ``stateless=True``: no call changes what another one brings. All episodes share one session, which is opened again
      where it was lost.
    - ``how="replay"``: the same calls in a new session bring the same results. A fork makes its calls so far again, and
      checks that.

    Close it, or use it as a context manager. A forked process opens sessions of its own, and no episode goes on in it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        stateless: bool = False,
        how: Literal["replay"] | None = None,
        timeout: float = 60.0,
    ) -> None:
        if how not in (None, "replay"):
            raise ValueError(f"how must be 'replay' or None, got {how!r}")
        if stateless and how:
            raise ValueError("stateless=True needs no how: forks share the session")
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {timeout!r}")
        self.stateless, self.replays = stateless, how == "replay"
        self._endpoint = endpoint
        closed = partial(ToolUnavailable, f"{endpoint.name} was closed")
        self._sessions: PerProcess[Sessions] = PerProcess(partial(_sessions, endpoint, timeout, closed), closed)
        self._shared = self._session()
        self._listed: tuple[str, list[Described]] | None = None

    @classmethod
    def stdio(
        cls,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Self:
        """A server that is started here, and spoken to over its standard input and output.

        Args:
            command: program and arguments.
            env: environment variables beside ``HOME``, ``PATH`` and the like; others are not passed on.
            cwd: where it runs; here by default.
            **options: ``stateless``, ``how``, and ``timeout``: seconds for starting it, and for each call.

        Raises:
            EnvError: the package mcp is not installed.
            ValueError: there is no command, or an option is out of its range.
        """
        if isinstance(command, str) or not command:
            raise ValueError(f"command must be a list such as ['python', 'server.py'], got {command!r:.80}")
        _check_installed()
        from at2po_env.mcp_link import Stdio

        return cls(Stdio(tuple(map(str, command)), env, None if cwd is None else str(Path(cwd))), **options)

    @classmethod
    def http(cls, url: str, *, headers: Mapping[str, str] | None = None, **options: Any) -> Self:
        """A server that runs elsewhere, spoken to over streamable HTTP.

        Args:
            url: of its endpoint, usually ``http://HOST:PORT/mcp``.
            headers: such as ``Authorization``; they are in no message and no manifest.
            **options: as for ``stdio``.

        Raises:
            EnvError: the package mcp is not installed.
            SearchError: the URL cannot be read.
            ValueError: it is not one of http, or an option is out of its range.
        """
        parts, shown = split_uri(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"an MCP server's address is http://HOST:PORT/mcp or the like, got {shown!r:.80}")
        _check_installed()
        from at2po_env.mcp_link import Http

        return cls(Http(url, shown, dict(headers or {}), sessions=not options.get("stateless", False)), **options)

    @property
    def name(self) -> str:
        """Its name in error messages."""
        return self._endpoint.name

    def tools(self, *names: str) -> tuple[Tool, ...]:
        """The server's tools, with its own descriptions and JSON schemas.

        The characters ``.`` and ``/`` in their names are ``_`` here, as no tag can have them.

        Args:
            *names: as the server knows them; all where there are none.

        Raises:
            ToolUnavailable: the server cannot be reached.
            EnvError: it has no such tool, or describes one as no model can be told (``BadTool``).
        """
        source, described = self._list()
        by_name = {one.name: one for one in described}
        if unknown := [name for name in names if name not in by_name]:
            raise EnvError(f"{self.name} has no tool {', '.join(unknown)}; it has {', '.join(by_name)[:500]}")
        tools = []
        for one in [by_name[name] for name in names] or described:
            try:
                called = tool_name(one.name)
                said = tool_description(one.description, one.title, called)
                arguments = tool_arguments(one.input_schema)
            except BadTool as error:
                raise BadTool(f"{self.name}, tool {one.name!r:.80}: {error}") from error
            function = partial(_call, one.name)
            function = partial(function, self._shared) if self.stateless else function
            host = None if self.stateless else self
            tools.append(Tool(function, called, said, arguments, f"mcp:{source}:{one.name}", host=host))
        return tuple(tools)

    def _list(self) -> tuple[str, list[Described]]:
        if self._listed is None:
            session = self._shared if self.stateless else self._session()
            self._listed = session.described()
            if not self.stateless:
                session.close()
        return self._listed

    def open(self) -> ToolSession:
        """A session, connected at its first call; ``ToolEnv`` opens one for each episode where it is needed."""
        return self._session()

    def _session(self) -> Session:
        from at2po_env.mcp_session import Session

        return Session(self._sessions.get, revives=self.stateless)

    def close(self) -> None:
        """End every session, and the processes behind them; calling it twice is fine."""
        self._sessions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _check_installed() -> None:
    if importlib.util.find_spec("mcp") is None:
        raise EnvError("tools of an MCP server need the package mcp: pip install 'at2po[mcp]'")


def _sessions(endpoint: Endpoint, timeout: float, closed: Callable[[], Exception]) -> Sessions:
    from at2po_env.mcp_session import Sessions

    return Sessions(endpoint, timeout, closed)


async def _call(name: str, session: ToolSession, /, **arguments: Any) -> Any:
    return await session.call(name, arguments)
