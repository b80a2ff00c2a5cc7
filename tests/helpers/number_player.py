"""A chat model that can play the number game: it adds up to the goal and stops, in tags or with tool calls."""

from __future__ import annotations

import json
from typing import Any

from tests.helpers.chat_server import Asked, Say


def adds_and_stops(asked: Asked) -> Say:
    """The next turn of a conversation about ``examples.number_game``, in the form that it was asked in."""
    native = bool(asked.body.get("tools"))
    goal = int(asked.messages[0]["content"].rsplit("Task: ", 1)[1])
    results = [message for message in asked.messages[1:] if message["role"] in ("tool", "user")]
    number = int(results[-1]["content"].strip("<result>/\n")) if results else 1
    if number == goal:
        return _call("stop", {}) if native else Say("<think>There.</think><stop>")
    n = min(9, goal - number)
    return _call("add", {"n": n}) if native else Say(f"<think>More.</think><add>{n}")


def _call(name: str, arguments: dict[str, Any]) -> Say:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return Say(
        "", finish="tool_calls", message={"tool_calls": [{"id": "c1", "type": "function", "function": function}]}
    )
