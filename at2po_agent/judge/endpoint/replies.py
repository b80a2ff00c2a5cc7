"""What a chat completion says, read without trust: endpoints differ, and some answer garbage with status 200."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_backend.outside import well_formed


class Garbage(Exception):
    """An answer that is no chat completion; ``status`` is set where it is an error in disguise."""

    def __init__(self, said: str, status: int | None = None, body: object = None) -> None:
        super().__init__(said)
        self.status, self.body = status, body


@dataclass(frozen=True)
class Reply:
    """One answer of the model."""

    text: str  # the message's content as it came
    finish: str  # stop, length, tool_calls, content_filter; "" where the endpoint does not say
    matched: str | None = None  # the stop string that ended it; "" for none; None where the endpoint does not say
    reasoning: str = ""  # what a reasoning model thought apart from its message
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    logprobs: tuple[Mapping[str, Any], ...] | None = None  # per token {token, logprob, top_logprobs}; None: not given
    seconds: float = 0.0  # from the request to the whole answer, without retries; 0 from the cache


def read_reply(body: object, seconds: float) -> Reply:
    """Read the first choice of a chat completion.

    Raises:
        Garbage: it is none.
    """
    if not isinstance(body, Mapping):
        raise Garbage(f"the answer is no object but a {type(body).__name__}")
    if body.get("error"):  # some gateways answer 200 and say in the body what went wrong
        code = body["error"].get("code") if isinstance(body["error"], Mapping) else None
        raise Garbage("the answer is an error", code if isinstance(code, int) and 400 <= code < 600 else 500, body)
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise Garbage("the answer has no message")
    finish = choice.get("finish_reason") or ""
    if finish in ("abort", "error"):
        raise Garbage(f"the answer was ended by the server ({finish})")
    usage = body.get("usage")
    return Reply(
        text=_text(message.get("content")),
        finish=str(finish),
        matched=_matched(choice),
        reasoning=_text(message.get("reasoning_content") or message.get("reasoning")),
        tool_calls=_calls(message.get("tool_calls")),
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        logprobs=_logprobs(choice.get("logprobs")),
        seconds=seconds,
    )


def cut_in_reasoning(reply: Reply, stop: Sequence[str]) -> bool:
    """Whether a stop string that the reasoning quotes ended a reply before its message began.

    Then there is no text beside reasoning, or the text is a thought that was not closed. Where the endpoint does not
    say what ended a reply, the model may have ended it so itself: that cannot be told apart.
    """
    if reply.tool_calls or not (reply.matched in stop or (reply.matched is None and reply.finish in ("stop", ""))):
        return False
    if not reply.text.strip():
        return bool(reply.reasoning) or reply.matched is not None
    return reply.text.rfind("<think>") > reply.text.rfind("</think>")


def _text(content: object) -> str:
    """A content: text, a list of parts of which some are text, or nothing."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = "".join(part for part in parts if isinstance(part, str))
    if content is not None and not isinstance(content, str):
        raise Garbage(f"the message is no text but a {type(content).__name__}")
    return well_formed(content or "")


def _matched(choice: Mapping[str, Any]) -> str | None:
    """What SGLang (``matched_stop``) and vLLM (``stop_reason``) say: a string, a token's id or nothing."""
    for name in ("matched_stop", "stop_reason"):
        if name in choice:
            return choice[name] if isinstance(choice[name], str) else ""
    return None


def _calls(given: object) -> tuple[Mapping[str, Any], ...]:
    """Calls of tools as OpenAI's API writes them: with an id, and with arguments as text."""
    calls = []
    for number, call in enumerate(given if isinstance(given, list) else ()):
        called = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(called, Mapping) or not isinstance(called.get("name"), str):
            raise Garbage("a tool call names no function")
        arguments = called.get("arguments")
        text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
        function = {"name": called["name"], "arguments": text}
        calls.append({"id": str(call.get("id") or f"call{number:05d}"), "type": "function", "function": function})
    return tuple(calls)


def _count(usage: object, name: str) -> int:
    count = usage.get(name) if isinstance(usage, Mapping) else None
    return count if isinstance(count, int) else 0


def _logprobs(given: object) -> tuple[Mapping[str, Any], ...] | None:
    tokens = given.get("content") if isinstance(given, Mapping) else None
    return tuple(tokens) if isinstance(tokens, list) else None
