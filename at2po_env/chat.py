"""An episode as chat messages, which is how an endpoint that takes no tokens reads it, and its answers as turns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from at2po_env.dialect import Dialect
from at2po_env.state import EpisodeState, Text, ToolMessage, plain
from at2po_env.tool_calls import TOOL, call_text
from search_backend.outside import well_formed

Message = dict[str, Any]
"""A message of OpenAI's chat format."""


def messages(dialect: Dialect, state: EpisodeState) -> list[Message]:
    """The episode so far as messages, to be answered with the next turn; ``dialect.tools`` go with them.

    In a dialect with ``as_messages`` turns and observations alternate, as messages of assistant and user or tool. In an
    inline one all are one assistant message, which the endpoint has to continue instead of answering.
    """
    said: list[Message] = [{"role": "user", "content": plain(dialect.prompt(state.question.question))}]
    for number, turn in enumerate(state.turns()):
        if dialect.as_messages:
            said.append(_assistant(dialect, turn.text, number))
            if turn.observation:
                said.append(_observed(dialect.placed(turn.observation, turn.action.kind), number))
        else:
            if number == 0:
                said.append({"role": "assistant", "content": ""})
            said[-1]["content"] += turn.text + plain(turn.observation)
    return said


def turn_text(message: Mapping[str, Any]) -> str:
    """An endpoint's assistant message (``content``, ``tool_calls``) as the text of a turn.

    Of several calls the first one is kept: only the first action of a turn acts.
    """
    content = well_formed(message.get("content") or "")
    calls: Sequence[Mapping[str, Any]] = message.get("tool_calls") or ()
    if not calls:
        return content
    called = calls[0]["function"]
    return _joined(content, call_text(well_formed(called["name"] or ""), well_formed(called["arguments"] or "")))


def tool_call(query: str, number: int) -> Message:
    """The call of the tool in the turn ``number``, counted from 0, as it stands among a message's ``tool_calls``."""
    arguments = json.dumps({"query": query}, ensure_ascii=False)
    return {"id": _call_id(number), "type": "function", "function": {"name": TOOL, "arguments": arguments}}


def _assistant(dialect: Dialect, turn: str, number: int) -> Message:
    before, action = dialect.split(turn)
    if not dialect.tools or action.kind != "search":  # a call that cannot be read is shown as it was written
        return {"role": "assistant", "content": turn}
    assert action.content is not None
    content = before.removesuffix("\n")
    return {"role": "assistant", "content": content, "tool_calls": [tool_call(action.content, number)]}


def _observed(observation: Text, number: int) -> Message:
    if isinstance(observation, ToolMessage):
        return {"role": "tool", "tool_call_id": _call_id(number), "content": plain(observation)}
    return {"role": "user", "content": plain(observation)}


def _joined(content: str, call: str) -> str:
    return f"{content}\n{call}" if content else call


def _call_id(number: int) -> str:
    return f"call{number:05d}"  # nine letters and digits: Mistral's templates take nothing else
