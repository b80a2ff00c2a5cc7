"""Replies that begin inside a thought, because the model's chat template writes ``<think>`` before its turn.

So do those of DeepSeek-R1, QwQ and Qwen3-Thinking: the reply has only ``</think>``. A reply that a stop string ended
before that looks like one of a model that does not think: it takes a whole reply to tell the two apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from at2po_agent.judge.endpoint.replies import Reply
from at2po_env.turn_text import begins_inside_a_thought

_TAG = "think"


class OpenedThoughts:
    """Whether an endpoint's replies begin inside a thought, learned from them."""

    def __init__(self) -> None:
        self.open = False
        # How often a whole reply may still be asked for to find out: the token limit may end one before it shows.
        self._tries = 3
        self._asking = asyncio.Lock()

    async def settle(self, reply: Reply, stop: Sequence[str], ask_whole: Callable[[], Awaitable[Reply]]) -> Reply:
        """The reply with its thought told apart, asked for again without stop strings where one may have cut that.

        Args:
            reply: of the endpoint.
            stop: stop strings that it was asked with.
            ask_whole: asks for the same without them.
        """
        self._learn(reply)
        if self._may_be_open() and _may_be_cut(reply, stop):
            # Of many first replies one is asked for again: the others wait for what it shows.
            async with self._asking:
                if self._may_be_open():
                    whole = await ask_whole()
                    self._tries = self._tries - 1 if whole.finish == "length" else 0
                    self._learn(whole)
                    reply = whole if self.open else reply
        # What the token limit ended before the thought did is all thought.
        if self.open and reply.finish == "length" and _shows_none(reply):
            return replace(reply, text="", reasoning=reply.text)
        return reply

    def _may_be_open(self) -> bool:
        return self.open or self._tries > 0

    def _learn(self, reply: Reply) -> None:
        if begins_inside_a_thought(reply.text, _TAG):
            self.open = True
        elif reply.reasoning or f"<{_TAG}>" in reply.text:
            self._tries = 0


def _may_be_cut(reply: Reply, stop: Sequence[str]) -> bool:
    """Whether a stop string ended a reply that shows no thought and does not begin with its action."""
    text = reply.text.strip()
    opened = tuple(tag for end in stop if (tag := end.replace("</", "<", 1)) in text)
    ended = reply.matched in stop or (reply.matched is None and reply.finish == "stop")
    whole = any(end in text for end in stop)
    return ended and bool(opened) and not whole and not text.startswith(opened) and _shows_none(reply)


def _shows_none(reply: Reply) -> bool:
    return not reply.tool_calls and not reply.reasoning and f"{_TAG}>" not in reply.text
