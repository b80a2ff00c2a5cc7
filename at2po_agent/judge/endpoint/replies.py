"""Read a chat completion without trusting it: endpoints differ, and some return garbage with status 200."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_backend.outside import Unusable, count, logprob, shown

_LONGEST_NAME = 200  # characters


class Garbage(Unusable):
    """An answer that is no chat completion; ``status`` is set where it is an error in disguise: 200 without a code."""

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
    prompt_tokens: int | None = None  # None: the endpoint does not count
    completion_tokens: int | None = None
    logprobs: tuple[Mapping[str, Any], ...] | None = None  # per token {token, logprob, top_logprobs}; None: not given
    seconds: float = 0.0  # from the request to the whole answer, without retries; 0 from the cache


def read_reply(body: object, seconds: float) -> Reply:
    """Read the first choice of a chat completion.

    Raises:
        Unusable: it is none, or something in it is not what it has to be.
    """
    if not isinstance(body, Mapping):
        raise Garbage(f"the answer is no object but a {type(body).__name__}")
    if body.get("error"):  # some gateways answer 200 and say in the body what went wrong
        code = body["error"].get("code") if isinstance(body["error"], Mapping) else None
        raise Garbage("the answer is an error", code if isinstance(code, int) and 400 <= code < 600 else 200, body)
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise Garbage("the answer has no message")
    finish = _name(choice.get("finish_reason"), "finish_reason")
    if finish in ("abort", "error"):
        raise Garbage(f"the answer was ended by the server ({finish})")
    usage = body.get("usage")
    return Reply(
        text=_text(message.get("content")),
        finish=finish,
        matched=_matched(choice),
        reasoning=_text(message.get("reasoning_content") or message.get("reasoning")),
        tool_calls=_calls(message.get("tool_calls")),
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        logprobs=_logprobs(choice.get("logprobs")),
        seconds=seconds,
    )


def tokens_behind(first: int | None, reply: Reply) -> int:
    """Tokens generated and observed behind a first prompt of ``first`` tokens; 0 where the endpoint does not count."""
    if first is None or reply.prompt_tokens is None or reply.completion_tokens is None:
        return 0
    return reply.prompt_tokens + reply.completion_tokens - first


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
    return content or ""


def _matched(choice: Mapping[str, Any]) -> str | None:
    """The stop that SGLang (``matched_stop``) or vLLM (``stop_reason``) reports: a string, a token id, or None."""
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


def _count(usage: object, name: str) -> int | None:
    given = usage.get(name) if isinstance(usage, Mapping) else None
    return None if given is None else count(given, f"usage.{name}")


def _logprobs(given: object) -> tuple[Mapping[str, Any], ...] | None:
    tokens = given.get("content") if isinstance(given, Mapping) else None
    if not isinstance(tokens, list):
        return None
    for number, token in enumerate(tokens):
        where = f"logprobs.content[{number}]"
        if not isinstance(token, Mapping) or not isinstance(token.get("token"), str):
            raise Garbage(f"{where} has no token")
        # One that is not there at all is for who needs it: asking again would bring no other.
        if (value := token.get("logprob")) is not None and not (isinstance(value, float) and math.isnan(value)):
            logprob(value, f"{where}.logprob")
        spelled = token.get("bytes")
        if spelled is not None and not (isinstance(spelled, list) and all(map(_is_byte, spelled))):
            raise Garbage(f"{where}.bytes are no bytes")
    return tuple(tokens)


def _is_byte(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 256


def _name(given: object, field: str) -> str:
    """A word that the endpoint uses for something; "" for none."""
    if given is not None and not (isinstance(given, str) and len(given) <= _LONGEST_NAME):
        raise Garbage(f"{field} is no name but {shown(given)}")
    return given or ""
