"""An episode as a conversation with a chat endpoint: what is sent, and the action that an answer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from at2po_agent.judge.answers import Reply
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import plain


class TagConversation:
    """Actions in tags inside the messages, results as messages of the user; works with every chat model.

    The model's turns are sent back as they came. Reasoning that came apart from a message is not sent back.
    """

    tools: tuple[Mapping[str, Any], ...] = ()

    def __init__(self, env: SearchQAEnv) -> None:
        self.stop = env.stop
        self.messages: list[dict[str, Any]] = [{"role": "user", "content": plain(env.observation())}]

    def take(self, reply: Reply) -> str:
        """Add the model's turn; returns the action."""
        text = turn_of(reply, self.stop)
        self.messages.append({"role": "assistant", "content": text})
        return text

    def observe(self, observation: str) -> None:
        """Add what the environment says to the last action."""
        self.messages.append({"role": "user", "content": observation})


def turn_of(reply: Reply, stop: Sequence[str]) -> str:
    """The turn that the model wrote, with the stop string that ended it, as a policy that gives tokens returns it.

    Endpoints that honour stop strings leave them out of the text: it is put back where the endpoint says which it was,
    or where it says "stop" and the text ends inside that tag. Endpoints that do not honour them go on behind it: that
    is cut.
    """
    ends = [reply.text.index(end) + len(end) for end in stop if end in reply.text]
    if ends:
        return reply.text[: min(ends)]
    if reply.matched is not None:
        return reply.text + (reply.matched if reply.matched in stop else "")
    opened = {end: reply.text.rfind(end.replace("</", "<", 1)) for end in stop}
    last = max(stop, key=lambda end: opened[end], default="")
    return reply.text + (last if reply.finish == "stop" and opened.get(last, -1) >= 0 else "")
