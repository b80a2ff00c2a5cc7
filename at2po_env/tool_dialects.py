"""Dialects of tools: how they are described, called and answered, with tags or native tool calls.

In tags ``<add>3</add>`` calls ``add(3)``: a tool with one parameter takes what stands inside, one with several a JSON
object of them, one without any nothing. The native form is what Qwen's and Hermes' chat templates write. Either ends an
episode with ``<answer>…</answer>``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from at2po_env.rendering import followed_by, text_of
from at2po_env.snapshots import chain
from at2po_env.state import Text, ToolMessage, ToolPrompt, UserMessage
from at2po_env.tasks import Chat
from at2po_env.tool_calls import call_text
from at2po_env.tools import Tool
from at2po_env.turn_text import Spoken, first_span, without_thoughts
from search_backend.components import Kind
from search_backend.outside import well_formed

CALL = "tool_call"
_BYTES_OF_COMPLAINT = 200  # of what is wrong with a turn, beside the names of tools


@dataclass(frozen=True)
class ToolAction:
    """A parsed turn: the call of a tool, the answer, or the reason why it is neither."""

    kind: Literal["call", "answer", "malformed"]
    tool: str = ""  # that is called
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    content: str | None = None  # of the answer
    why: str | None = None  # it is malformed

    def to_json(self) -> dict[str, Any]:
        """The action as ``info``, transcripts and records hold it; the content of a call is the call."""
        content = self.content
        if self.kind == "call":
            content = f"{self.tool}({json.dumps(dict(self.arguments), ensure_ascii=False)[1:-1]})"
        return {"kind": self.kind, "content": content, "why": self.why}


@dataclass(frozen=True)
class ToolDialect:
    """One way of calling tools. ``{tools}`` in the instructions is replaced by a line for each tool."""

    name: str
    instructions: str
    native: bool = False  # tool calls of chat templates and endpoints; otherwise a tag for each tool
    as_messages: bool = False  # results are messages, not parts of the assistant's
    result_open: str = "\n<result>\n"
    result_close: str = "\n</result>\n"
    think: str = "think"
    answer: str = "answer"
    require_think: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 hex digest over every string and option."""
        return chain("tool dialect", json.dumps(dataclasses.asdict(self), sort_keys=True))

    def stop(self, tools: Sequence[Tool]) -> tuple[str, ...]:
        """Strings at which generation of a turn stops; each belongs to the turn that it ends."""
        names = [CALL] if self.native else [tool.name for tool in tools]
        return tuple(f"</{name}>" for name in (*names, self.answer))

    def chat(self, tools: Sequence[Tool]) -> Chat | None:
        """Settings for chat endpoints; None where results are parts of the model's own message."""
        if not self.as_messages:
            return None
        if self.native:  # to cut a call short would hide it from the endpoint's parser
            return Chat((f"</{self.answer}>",), self.think, tuple(tool.schema for tool in tools))
        return Chat(self.stop(tools), self.think)

    def result_bytes(self, tools: Sequence[Tool], max_chars: int) -> int:
        """Bytes of UTF-8 that no result of at most ``max_chars`` characters exceeds, nor what is said of a turn."""
        said = _BYTES_OF_COMPLAINT + sum(len(tool.name) + len("<> or ") for tool in tools)
        return max(4 * max_chars, said) + len((self.result_open + self.result_close).encode())

    def prompt(self, task: str, tools: Sequence[Tool]) -> Text:
        """The prompt."""
        described = "\n".join(f"{self._example(tool)}: {tool.description.splitlines()[0]}" for tool in tools)
        text = text_of(*followed_by(self.instructions.replace("{tools}", described), task))
        return ToolPrompt.of(text, tuple(tool.schema for tool in tools)) if self.native else text

    def _example(self, tool: Tool) -> str:
        match tool.parameters:
            case ():
                inner = ""
            case (only,):
                inner = only
            case several:
                inner = "{" + ", ".join(f'"{name}": …' for name in several) + "}"
        return f"<{tool.name}>{inner}</{tool.name}>"

    def result(self, text: str, after: str) -> Text:
        """The observation after an action of the kind ``after``: a tool's result, or an error message."""
        # What is wrong with a turn is said in our words, which may name tags; a result is anybody's.
        said = [(self.result_open + text, False)] if after == "malformed" else followed_by(self.result_open, text)
        return self.placed(text_of(*said, (self.result_close, False)), after)

    def placed(self, observation: Text, after: str) -> Text:
        """An observation as what it is in this dialect: inline text, a message of the user, or one of the tool."""
        if not observation:
            return observation
        if self.native and after == "call":
            return ToolMessage(observation)
        return UserMessage(observation) if self.as_messages else tuple(observation)

    def parse(self, text: str, tools: Mapping[str, Tool]) -> ToolAction:
        """Read one turn: the first complete call or answer outside thoughts. Linear in ``len(text)`` for each tool."""
        spoken = without_thoughts(text, self.think)
        names = [CALL] if self.native else list(tools)
        spans = [(span[0], name, span[1]) for name in (*names, self.answer) if (span := first_span(spoken.text, name))]
        if not spans:
            return ToolAction("malformed", why=f"no complete {' or '.join(f'<{n}>' for n in (*names, self.answer))}")
        start, name, inner = min(spans)
        if self.require_think and not _thought_before(spoken, start):
            return ToolAction("malformed", why=f"no <{self.think}> before the action")
        if name == self.answer:
            answer = inner.strip()
            return (
                ToolAction("answer", content=answer) if answer else ToolAction("malformed", why="the answer is empty")
            )
        try:
            return _native(inner) if self.native else _tagged(tools[name], inner)
        except (ValueError, RecursionError):
            return ToolAction("malformed", why="the call has no JSON object of its arguments")

    def write(self, action: ToolAction, tools: Mapping[str, Tool]) -> str:
        """The turn that does only ``action``, with an empty thought where one is required; :meth:`parse` reads it back.

        Raises:
            ValueError: no turn of this dialect does this.
        """
        if action.kind == "answer":
            turn = f"<{self.answer}>{action.content}</{self.answer}>"
        elif self.native:
            turn = call_text(action.tool, json.dumps(dict(action.arguments), ensure_ascii=False))
        else:
            arguments = action.arguments
            (*names,) = tools[action.tool].parameters if action.tool in tools else ()
            plain = len(names) == 1 and isinstance(arguments.get(names[0]), str | int | float)
            inner = str(arguments[names[0]]) if plain else json.dumps(dict(arguments), ensure_ascii=False)
            turn = f"<{action.tool}>{inner if arguments else ''}</{action.tool}>"
        if self.require_think:
            turn = f"<{self.think}> </{self.think}>{turn}"
        if self.parse(turn, tools).kind != action.kind:
            raise ValueError(f"dialect {self.name!r} has no turn that does {action}")
        return turn


def _thought_before(spoken: Spoken, start: int) -> bool:
    return spoken.first_thought is not None and spoken.first_thought <= start


def _tagged(tool: Tool, inner: str) -> ToolAction:
    inner = well_formed(inner.strip())
    if len(tool.parameters) == 1 and not inner.startswith("{"):
        return ToolAction("call", tool.name, {tool.parameters[0]: inner})
    arguments = json.loads(inner) if inner else {}
    if not isinstance(arguments, dict):
        raise ValueError("no object")
    return ToolAction("call", tool.name, arguments)


def _native(inner: str) -> ToolAction:
    call = json.loads(well_formed(inner))
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise ValueError("no name")
    arguments = call.get("arguments", {})
    if isinstance(arguments, str):  # encoded twice, as some servers do
        arguments = json.loads(arguments)
    if not isinstance(arguments, dict):
        raise ValueError("no object")
    return ToolAction("call", call["name"], arguments)


_TASK = "Task: "
_END = "When the task is done, end with <answer>your answer</answer>.\n"

TAGS = ToolDialect(
    name="tags",
    instructions="Solve the task below. Think first, inside <think> and </think>, then use one of these tools; its "
    f"result follows between <result> and </result>, and you can go on:\n{{tools}}\n{_END}{_TASK}",
)

BARE = ToolDialect(name="bare", instructions="", result_open="<result> ", result_close=" </result>")

CHAT = dataclasses.replace(TAGS, name="chat", as_messages=True, result_open="<result>\n", result_close="\n</result>")

NATIVE = ToolDialect(
    name="native",
    instructions=f"Solve the task below. Think first, then call one of your tools, one call at a time. {_END}{_TASK}",
    native=True,
    as_messages=True,
    result_open="",
    result_close="",
)

TOOL_DIALECTS = {dialect.name: dialect for dialect in (TAGS, BARE, CHAT, NATIVE)}
"""The dialects of ``ToolEnv`` by name."""
TOOL_DIALECT = Kind("tool_dialect", ToolDialect, TOOL_DIALECTS)
