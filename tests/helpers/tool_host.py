"""A host of tools that keeps a number for each session: a double at the seam of ``tool_sessions``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from at2po_env.errors import ToolUnavailable
from at2po_env.tools import Tool


@dataclass
class Session:
    number: int = 0
    closed: bool = False

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        if arguments["n"] == 99:
            raise ToolUnavailable("the host is away")
        self.number += arguments["n"]
        if arguments["n"] == 50:  # as slow a call as there is
            await asyncio.sleep(60)
        return str(self.number)

    def close(self) -> None:
        self.closed = True


@dataclass(eq=False)
class Host:
    replays: bool = False
    name: str = "the host"
    sessions: list[Session] = field(default_factory=list)

    def open(self) -> Session:
        self.sessions.append(Session())
        return self.sessions[-1]

    def tool(self) -> Tool:
        """``add(n)`` of this host."""

        def add(n: int) -> str:
            """Add n."""
            return ""

        async def call(session: Session, /, n: int) -> Any:
            return await session.call("add", {"n": n})

        tool = Tool.of(add)
        return Tool(call, tool.name, tool.description, tool.arguments, "host:add", host=self)
