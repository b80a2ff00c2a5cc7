"""Read a model's context length from the message of a server that refused a longer prompt."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from at2po_agent.judge.endpoint.refusals import ContextFull

T = TypeVar("T")

OMIT = "omit"
"""The value of a field that is left out of a request."""

# Longer ones are no counts, and Python does not read them.
_N = r"(\d[\d,_]{0,30})"
_WINDOW = re.compile(rf"context[ _-](?:length|size|window)\D{{0,30}}?{_N}", re.IGNORECASE)
# OpenAI, old vLLM, SGLang, OpenRouter · vLLM
_TOTAL = re.compile(rf"requested (?:a total of |about )?{_N} tokens|for a total of {_N}", re.IGNORECASE)
_COMPLETION = re.compile(rf"{_N} (?:tokens )?(?:in|for) the (?:completion|output)|{_N} output tokens", re.IGNORECASE)
_PROMPT = re.compile(
    # OpenAI · OpenAI's older models · SGLang · OpenRouter · vLLM · llama.cpp
    rf"{_N} in the messages|{_N} in your prompt|{_N} tokens from the input|{_N} of text input|{_N} input tokens|"
    rf"request \({_N} tokens",
    re.IGNORECASE,
)
# vLLM stops to count a prompt when it is longer than what ``max_tokens`` leaves.
_UNCOUNTED = re.compile(rf"at least {_N} input tokens", re.IGNORECASE)


async def ask_what_fits(ask: Callable[[Mapping[str, Any]], Awaitable[T]], fields: Mapping[str, Any]) -> T:
    """Ask with the fields of a request; where only its ``max_tokens`` do not fit, ask once more for what fits.

    Raises:
        ContextFull: the conversation does not fit, or the server does not say how much does.
    """
    try:
        return await ask(fields)
    except ContextFull as full:
        limits = {name: fields[name] for name in ("max_tokens", "max_completion_tokens") if name in fields}
        fits = what_fits(full.said, min(limits.values(), default=0))
        if fits is None:
            raise
        return await ask(without_omitted({**fields, **dict.fromkeys(limits, fits)}))


def without_omitted(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are sent: those that are neither null nor ``OMIT``."""
    return {name: value for name, value in fields.items() if value is not None and value != OMIT}


def what_fits(said: str, max_tokens: int) -> int | str | None:
    """The ``max_tokens`` with which a conversation fits that was refused with more.

    Args:
        said: the server's message.
        max_tokens: of the refused request.

    Returns:
        A number of tokens from 1 to ``max_tokens`` - 1; ``OMIT`` where the server itself knows best how many fit; None
        where none do, or the message does not say.
    """
    window, prompt = _number(_WINDOW, said), _number(_PROMPT, said)
    if window is None:
        return None
    if _UNCOUNTED.search(said):
        return OMIT if prompt is not None and prompt < window else None
    total = _number(_TOTAL, said)
    if total is not None:
        # Better than the messages' own number: beside them there may be functions.
        completion = _number(_COMPLETION, said)
        prompt = total - (max_tokens if completion is None else completion)
    if prompt is None:
        return None
    # One less, as older versions of SGLang refuse what fills the context exactly.
    room = window - prompt - 1
    return room if 1 <= room < max_tokens else None


def _number(pattern: re.Pattern[str], said: str) -> int | None:
    match = pattern.search(said)
    return None if match is None else int(re.sub(r"\D", "", next(group for group in match.groups() if group)))
