"""A real MCP server: a number for each session, over stdio or (with a port as argument) over streamable HTTP."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import EmbeddedResource, ImageContent, TextContent, TextResourceContents

server = MCPServer("counter", version="1.0", log_level="ERROR")
numbers: Counter[str | None] = Counter()  # by session, which is the process over stdio


@server.tool()
def add(n: int, ctx: Context) -> str:
    """Add n to the number."""
    session = (ctx.headers or {}).get("mcp-session-id")
    numbers[session] += n
    return str(numbers[session])


@server.tool()
def twice(n: int) -> str:
    """Twice n."""
    return str(2 * n)


@server.tool(name="text.join")
def join(texts: list[str], by: str = " ") -> str:
    """Join texts."""
    return by.join(texts)


@server.tool()
def fail() -> str:
    """Fail."""
    raise ToolError("this went wrong")


@server.tool()
async def wait(seconds: float) -> str:
    """Wait."""
    await asyncio.sleep(seconds)
    return "done"


@server.tool(structured_output=False)
def mixed() -> list[Any]:
    """Text, an image and a file."""
    page = TextResourceContents(uri="file:///a.txt", text="of a file")
    image = ImageContent(type="image", data="AAAA", mime_type="image/png")
    return [TextContent(type="text", text="first"), image, EmbeddedResource(type="resource", resource=page)]


@server.tool(structured_output=False)
def flood() -> list[Any]:
    """Much text."""
    return [TextContent(type="text", text="x" * 1000)] * 100


@server.tool()
def process() -> str:
    """The server's process."""
    return str(os.getpid())


@server.tool()
def die() -> str:
    """End the server."""
    print("the counter has had enough", file=sys.stderr, flush=True)
    os._exit(3)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
