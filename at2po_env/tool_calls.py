"""Native tool calls: a search is a call of the tool ``search``, as chat models and endpoints know them.

As text a call is what Qwen's and Hermes' chat templates write, so a policy that samples tokens says it in its own form.
``at2po_env/chat.py`` has the same calls as messages for endpoints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from at2po_env.dialect import Dialect
from at2po_env.rendering import OPENS_A_TAG
from at2po_env.state import Action, ActionKind, Text, ToolMessage, ToolPrompt
from search_backend.outside import well_formed

TOOL = "search"


def call_text(name: str, arguments: str) -> str:
    """A call as text. ``arguments`` is JSON, as an endpoint gives it; a tag in one of its strings is escaped."""
    inner = f'{{"name": {json.dumps(name)}, "arguments": {arguments.strip() or "{}"}}}'
    return f"<tool_call>\n{OPENS_A_TAG.sub(chr(92) + chr(92) + 'u003c', inner)}\n</tool_call>"


@dataclass(frozen=True)
class ToolCalls(Dialect):
    """Searches by calls of one tool, answers in a tag: ``search`` is the tag around a call."""

    search: str = "tool_call"
    tool_description: str = ""
    query_description: str = ""

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """The JSON schema of ``search(query)``."""
        query = {"query": {"type": "string", "description": self.query_description}}
        parameters = {"type": "object", "properties": query, "required": ["query"]}
        function = {"name": TOOL, "description": self.tool_description, "parameters": parameters}
        return ({"type": "function", "function": function},)

    def prompt(self, question: str) -> Text:
        """The prompt, with the tools."""
        return ToolPrompt.of(super().prompt(question), self.tools)

    def placed(self, observation: Text, after: ActionKind) -> Text:
        """Wrap an observation: after a call as a ``ToolMessage``; after a malformed turn as a ``UserMessage``."""
        return ToolMessage(observation) if observation and after == "search" else super().placed(observation, after)

    def _read_search(self, inner: str) -> Action:
        try:
            call = json.loads(inner, parse_int=_number, parse_float=_number)
        except (ValueError, RecursionError):
            return Action("malformed", why="the tool call is no JSON")
        if not isinstance(call, dict) or call.get("name") != TOOL:
            return Action("malformed", why=f"the tool call names no tool that there is; there is only {TOOL}")
        arguments = call.get("arguments")
        if isinstance(arguments, str):  # encoded twice, as some endpoints and models do it
            with suppress(ValueError, RecursionError):
                arguments = json.loads(arguments, parse_int=_number, parse_float=_number)
        query = arguments.get("query") if isinstance(arguments, dict) else None
        if not isinstance(query, str):
            return Action("malformed", why='the tool call has no string "query" among its arguments')
        return super()._read_search(well_formed(query))

    def _write_search(self, query: str) -> str:
        return call_text(TOOL, json.dumps({"query": query}, ensure_ascii=False))


def _number(digits: str) -> None:
    """No number in a call means anything, and turning a very long one into a value is slow."""
