"""A real MCP server over stdio that describes the tools in its argument, a JSON list, whatever they are."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolResult, ListToolsResult, Tool


async def described(context: Any, page: Any) -> ListToolsResult:
    return ListToolsResult(tools=[Tool(**tool) for tool in json.loads(sys.argv[1])])


async def called(context: Any, call: Any) -> CallToolResult:
    return CallToolResult(content=[])


async def main() -> None:
    server: Server[Any] = Server("hostile", on_list_tools=described, on_call_tool=called)
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


asyncio.run(main())
