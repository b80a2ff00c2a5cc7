"""Decide what an endpoint's error means: try again, drop a field, give up this episode, or stop everything."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit, urlunsplit

from at2po_agent.policy.base import PolicyError
from at2po_agent.terminal import visible
from search_backend.retry import RETRYABLE

_ADDRESS = "Check the model's name (-m) and the address (-b, up to and with /v1)."
_ADVICE = {
    # An error without a code: so LM Studio answers an address that it does not know.
    200: _ADDRESS,
    401: "Check the key that -k names.",
    402: "The account has to be paid for.",
    403: "Check what the key that -k names may use.",
    404: _ADDRESS,
    405: "Check the address (-b, up to and with /v1).",
    429: "The account's quota is used up.",
}
_OPTIONAL: Mapping[str, str | None] = {"stop": None, "seed": None, "max_tokens": "max_completion_tokens"}
_NEEDED = frozenset({"model", "messages", "prompt", "tools", "logprobs", "top_logprobs"})
_NOT_KNOWN = re.compile("support|unknown|unrecogni[sz]ed|permitted", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"context[_ -]?(length|size|window)|maximum context|too many (input )?tokens|prompt is too long|"
    r"longer than the model",
    re.IGNORECASE,
)
# OpenAI, Azure, Moonshot · OpenAI · OpenAI's reasoning models · Azure · DashScope · Zhipu · Gemini · gateways
_FILTERED = re.compile(
    r"content[_ -]?filter|content_policy|^invalid_prompt$|ResponsibleAIPolicy|data_?inspection_?failed|^1301$|"
    r"prohibited_content|moderation|guardrail",
    re.IGNORECASE,
)


class EndpointError(PolicyError):
    """Nothing can be asked of the endpoint: everything stops, and the message says what to change."""


class Refusal(PolicyError):
    """The endpoint refuses one request, and would again.

    Args:
        message: the error's.
        said: what the server said, at full length.
    """

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said


class ContextFull(Refusal):
    """The conversation is longer than the model can read."""


class Filtered(Refusal):
    """A filter of contents refuses the conversation, which says nothing about the next one."""


class Unsupported(Exception):
    """The endpoint does not know a field that it can do without, or knows it by another name (``instead``)."""

    def __init__(self, field: str, instead: str | None) -> None:
        super().__init__(field)
        self.field, self.instead = field, instead


@dataclass(frozen=True)
class Refused:
    """The meaning of one error response."""

    said: str  # by the server, in one line of any length
    again: bool = False  # trying again may help
    asked: float = 0.0  # seconds that the server wants to be left alone
    final: bool = False  # no request can work
    unsupported: Unsupported | None = None
    kind: type[Refusal] = Refusal
    advice: str = ""


def read_refusal(status: int, body: object, headers: Mapping[str, str]) -> Refused:
    """Read an error answer.

    Args:
        status: the HTTP status.
        body: JSON or text; endpoints put their message in ``error.message``, ``message``, ``error`` or ``detail``.
        headers: for ``Retry-After``.
    """
    error = body.get("error", body) if isinstance(body, Mapping) else body
    fields = error if isinstance(error, Mapping) else {}
    said = _line(fields.get("message") or fields.get("detail") or error)
    if status == 429 and "insufficient_quota" in (fields.get("code"), fields.get("type")):
        return Refused(said, final=True, advice=_ADVICE[429])
    if _is_filtered(fields):
        return Refused(said, kind=Filtered)
    if status in RETRYABLE:
        return Refused(said, again=True, asked=_retry_after(headers))
    if status in _ADVICE or status >= 500:
        return Refused(said, final=True, advice=_ADVICE.get(status, ""))
    if _TOO_LONG.search(f"{fields.get('code')} {fields.get('type')} {said}"):
        return Refused(said, kind=ContextFull)
    return Refused(said, unsupported=_unsupported(fields, said), advice=_advice(fields, said))


def moved_to(base_url: str, location: str) -> str:
    """The address to give in place of ``base_url``, of a redirect to ``location``; without what could hold a key."""
    try:
        parts = urlsplit(urljoin(base_url, location))
        host = parts.netloc.rpartition("@")[2]
        path = parts.path.removesuffix("/").removesuffix("/chat/completions")
    except ValueError:
        return "an address that cannot be read"
    return visible(urlunsplit((parts.scheme, host, path, "", "")))


def _is_filtered(fields: Mapping[str, object]) -> bool:
    """Whether a code of the error, or what OpenRouter adds to it, is of a filter of contents."""
    inner = fields.get("innererror")
    codes = [fields.get("code"), fields.get("type"), inner.get("code") if isinstance(inner, Mapping) else None]
    more = fields.get("metadata")
    return any(_FILTERED.search(str(code)) for code in codes) or (isinstance(more, Mapping) and "flagged_input" in more)


def _unsupported(fields: Mapping[str, object], said: str) -> Unsupported | None:
    """The optional field that a message complains about, by OpenAI's ``param`` or by its name."""
    for field, instead in _OPTIONAL.items():
        named = re.search(rf"[\"'`]{field}[\"'`]", said) and _NOT_KNOWN.search(said)
        # A bare ``max_tokens`` is rather too large than not known.
        if fields.get("param") == field or named or (instead is None and _not_known(said, field)):
            return Unsupported(field, instead)
    return None


def _not_known(said: str, field: str) -> bool:
    """Whether a message says that a field is not known, and names it in quotes, first, or behind a word for a field."""
    quoted, behind = rf"[\"'`]{field}[\"'`]", rf"\b(parameter|argument|field)s?\b[^.\"'`]{{0,200}}[ :=]{field}(?![\w-])"
    named = rf"{quoted}|^{field}(:| (is|are) not )|{behind}"
    wider = re.search("unexpected|not allowed", said, re.IGNORECASE)
    return bool(re.search(named, said, re.IGNORECASE) and (wider or _NOT_KNOWN.search(said)))


def _advice(fields: Mapping[str, object], said: str) -> str:
    """Advice on leaving out a field that may change what is measured, which only the user should do."""
    param = fields.get("param")
    if param == "temperature" or _not_known(said, "temperature"):
        return "Try -T 1, or leave it out with request.temperature=omit."
    optional = isinstance(param, str) and param.isidentifier() and param not in _NEEDED
    if optional and _NOT_KNOWN.search(f"{fields.get('code')} {said}"):
        return f"If the model can do without, leave it out with request.{param}=omit."
    return ""


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds, from ``Retry-After-Ms`` or ``Retry-After`` (seconds or a date: RFC 9110, section 10.2.3); else 0."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"\d{1,20}(\.\d*)?", value):
            return float(value) * unit
        if value:
            try:
                return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
            except (ValueError, OverflowError):
                continue  # neither: as if it were not there
    return 0.0


def _line(said: object) -> str:
    return " ".join(visible(str(said or "")).split())
