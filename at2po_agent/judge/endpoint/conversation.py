"""An episode as a conversation with a chat endpoint: what is sent, and the action that an answer is.

The model's turns are sent back as they came. Reasoning that came apart from a message is not sent back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from at2po_agent.judge.endpoint.replies import Reply
from at2po_env.chat import turn_text
from at2po_env.state import Text, ToolMessage, plain
from at2po_env.tasks import Chat, TaskEnv
from at2po_env.turn_text import without_thoughts


class TagConversation:
    """Actions in tags inside the messages, results as messages of the user; works with every chat model."""

    def __init__(self, chat: Chat, prompt: Text) -> None:
        self.stop, self.think, self.tools = chat.stop, chat.think, chat.tools
        self.messages: list[dict[str, Any]] = [{"role": "user", "content": plain(prompt)}]

    def take(self, reply: Reply) -> str:
        """Add the model's turn; returns the action."""
        text = turn_of(reply, self.stop, self.think)
        self.messages.append({"role": "assistant", "content": text})
        return text

    def observe(self, observation: Text) -> None:
        """Add what the environment says to the last action."""
        self.messages.append({"role": "user", "content": plain(observation)})


class ToolConversation(TagConversation):
    """Actions as calls of the endpoint's tools, results as messages of the tool; the answer is in a tag.

    Only the first call of a turn acts; it alone is sent back, with the endpoint's own id.
    """

    def take(self, reply: Reply) -> str:
        """Add the model's turn, its first call included; returns the action."""
        content = turn_of(reply, self.stop, self.think)
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if reply.tool_calls:
            message["tool_calls"] = [dict(reply.tool_calls[0])]
        self.messages.append(message)
        return turn_text(message)

    def observe(self, observation: Text) -> None:
        """Add what the environment says: in answer to the call, if it is a message of the tool."""
        last = self.messages[-1]
        calls = last.get("tool_calls")
        if calls and isinstance(observation, ToolMessage):
            self.messages.append({"role": "tool", "tool_call_id": calls[0]["id"], "content": plain(observation)})
            return
        if calls:  # it cannot be read: endpoints refuse a call without an answer, so it is shown as it was written
            self.messages[-1] = {"role": "assistant", "content": turn_text(last)}
        super().observe(observation)


def converse(env: TaskEnv[Any]) -> TagConversation:
    """The conversation with an environment that was reset, and has a ``chat`` form."""
    assert env.chat is not None
    form = ToolConversation if env.chat.tools else TagConversation
    return form(env.chat, env.observation())


def turn_of(reply: Reply, stop: Sequence[str], think: str = "think") -> str:
    """The turn that the model wrote, with the stop string that ended it, as a policy that gives tokens returns it.

    Endpoints that honour stop strings leave them out of the text: it is put back where the endpoint says which it was,
    or where it says "stop" and the text ends inside that tag. Endpoints that do not honour them go on behind it: that
    is cut, but never inside a thought, which may quote a tag.
    """
    spoken = without_thoughts(reply.text, think)
    ends = [spoken.text.index(end) + len(end) for end in stop if end in spoken.text]
    if ends:
        return reply.text[: spoken.place(min(ends) - 1) + 1]
    if reply.matched is not None:
        return reply.text + (reply.matched if reply.matched in stop else "")
    opened = {end: reply.text.rfind(end.replace("</", "<", 1)) for end in stop}
    last = max(stop, key=lambda end: opened[end], default="")
    return reply.text + (last if reply.finish == "stop" and opened.get(last, -1) >= 0 else "")
