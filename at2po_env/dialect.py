"""A dialect: how a question is put to the model, how its turn is read, and how results are shown to it.

Actions are parsed as plain text in linear time. What is shown is rendered as :data:`~at2po_env.state.Text`: scaffold
that is ours, and data (questions, passages) that is never trusted. Inside data no tag and no ``<|special|>`` token can
exist, because :func:`neutralise` takes away the ``<`` that every one of them starts with.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from at2po_env.state import Action, Segment, Text, UserMessage, chain
from search_backend.base import Hit

_OPENS_A_TAG = re.compile(r"<(?![\s\d=])")
_BRACE = re.compile(r"[{}]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def well_formed(text: str) -> str:
    """``text`` with surrogate pairs joined and lone surrogates replaced by U+FFFD, so that it has a UTF-8 form."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def neutralise(data: str) -> str:
    """``data`` without anything that could be read as a tag or a special token.

    Every ``<`` becomes ``‹`` unless white space, a digit or ``=`` follows it, as in ``a < b`` or ``p <0.05``.
    """
    return _OPENS_A_TAG.sub("‹", well_formed(data))


@dataclass(frozen=True)
class Dialect:
    r"""One way of talking to the model with inline tags. Another one differs in strings, or has these methods itself.

    ``{n}`` in ``hit_open`` is the hit's rank from 1. ``require_think`` and ``require_boxed`` make an action without a
    thought before it, or an answer without ``\boxed{…}``, malformed.
    """

    name: str
    instructions: str
    question_open: str
    question_close: str
    result_open: str
    hit_open: str
    title_close: str
    hit_close: str
    result_close: str
    nothing_found: str
    boxed_instruction: str = ""
    search_limit: str = "You have no searches left. Give your answer now."
    complaint: str = "This turn had no usable action: {why}."
    think: str = "think"
    search: str = "search"
    answer: str = "answer"
    require_think: bool = False
    require_boxed: bool = False
    as_messages: bool = False  # observations after the prompt are user messages, not parts of the assistant's

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings at which generation of a turn stops; each belongs to the turn that it ends."""
        return (f"</{self.search}>", f"</{self.answer}>")

    @property
    def digest(self) -> str:
        """SHA-256 hex digest over every string and option."""
        described = dataclasses.asdict(self)
        if not self.as_messages:  # so that what was recorded before there was this option keeps its digest
            del described["as_messages"]
        return chain("dialect", json.dumps(described, sort_keys=True))

    def prompt(self, question: str) -> Text:
        """What the model reads first."""
        instructions = self.instructions + (self.boxed_instruction if self.require_boxed else "")
        opening = instructions + self.question_open
        return _text(*_followed_by(opening, question), (self.question_close, False))

    def result(self, hits: Sequence[Hit], max_chars: int) -> Text:
        """The answer to a search: hits in order until their titles and texts fill ``max_chars`` characters.

        The hit that crosses the limit is cut and marked with ``…``; scaffold is never cut.
        """
        pieces = [(self.result_open, False)]
        left = max_chars
        for rank, hit in enumerate(hits, start=1):
            if left <= 0:
                break
            title = _cut(hit.passage.title, left)
            left -= len(title)
            text = _cut(hit.passage.text, left)
            left -= len(text)
            pieces += _followed_by(self.hit_open.replace("{n}", str(rank)), title)
            pieces += [*_followed_by(self.title_close, text), (self.hit_close, False)]
        if not hits:
            pieces.append((self.nothing_found, False))
        return self.placed(_text(*pieces, (self.result_close, False)))

    def placed(self, observation: Text) -> Text:
        """An observation as the kind of text that it is in this dialect: an inline one, or a ``UserMessage``."""
        return UserMessage(observation) if self.as_messages and observation else observation

    def notice(self) -> Text:
        """What follows the first search past the limit: it asks for the answer."""
        return self._say(self.search_limit)

    def error(self, action: Action) -> Text:
        """What follows a malformed action where the episode goes on."""
        return self._say(self.complaint.replace("{why}", action.why or "malformed"))

    def _say(self, message: str) -> Text:
        pieces = (self.result_open, message, self.hit_close, self.result_close)
        return self.placed(_text(*((piece, False) for piece in pieces)))

    def parse(self, text: str) -> Action:
        """Read one turn: the first complete search or answer outside thoughts. Linear in ``len(text)``."""
        remains, first_thought = self._without_thoughts(text)
        found = [
            (start, inner, kind)
            for kind, tag in (("search", self.search), ("answer", self.answer))
            if (span := _first_span(remains, tag)) is not None
            for start, inner in (span,)
        ]
        if not found:
            return Action("malformed", why=f"no complete <{self.search}> or <{self.answer}>")
        start, inner, kind = min(found)
        if self.require_think and (first_thought is None or first_thought > start):
            return Action("malformed", why=f"no <{self.think}> before the action")
        if kind == "search":
            query = inner.strip()
            return Action("search", query) if query else Action("malformed", why="the query is empty")
        boxed = _last_boxed(inner)
        if boxed is None and self.require_boxed:
            return Action("malformed", why="the answer has no \\boxed{}")
        answer = (inner if boxed is None else boxed).strip()
        return Action("answer", answer) if answer else Action("malformed", why="the answer is empty")

    def _without_thoughts(self, text: str) -> tuple[str, int | None]:
        """The text outside thoughts, and where in it the first closed thought stood."""
        opening, closing = f"<{self.think}>", f"</{self.think}>"
        kept: list[str] = []
        first: int | None = None
        position = 0
        while (start := text.find(opening, position)) != -1:
            kept.append(text[position:start])
            end = text.find(closing, start + len(opening))
            if end == -1:
                return "".join(kept), first
            if first is None:
                first = len(kept[0])
            position = end + len(closing)
        kept.append(text[position:])
        return "".join(kept), first


def _first_span(text: str, tag: str) -> tuple[int, str] | None:
    # If nothing closes the first opening tag, nothing closes a later one: two finds decide.
    opening, closing = f"<{tag}>", f"</{tag}>"
    start = text.find(opening)
    end = text.find(closing, start + len(opening)) if start != -1 else -1
    return None if end == -1 else (start, text[start + len(opening) : end])


def _last_boxed(text: str) -> str | None:
    r"""The inside of the balanced ``\boxed{…}`` that opens last."""
    if "\\boxed{" not in text:
        return None
    opened: list[int] = []
    last: tuple[int, int] | None = None
    for brace in _BRACE.finditer(text):
        if brace.group() == "{":
            opened.append(brace.end())
        elif opened:
            start = opened.pop()
            if text.endswith("\\boxed{", 0, start) and (last is None or start > last[0]):
                last = (start, brace.start())
    return None if last is None else text[slice(*last)]


def _cut(data: str, limit: int) -> str:
    return data if len(data) <= limit else data[: max(limit - 1, 0)] + "…"[:limit]


def _followed_by(scaffold: str, data: str) -> list[tuple[str, bool]]:
    """Scaffold, then data, each to be encoded alone. A space between them goes to the data.

    Tokenizers make one token of a word and the space before it: so a title reads as it does inside a sentence.
    """
    kept = scaffold.removesuffix(" ") if data else scaffold
    return [(kept, False), (scaffold[len(kept) :] + neutralise(data), True)]


def _text(*pieces: tuple[str, bool]) -> Text:
    return tuple(Segment(text, data) for text, data in pieces if text)


_INSTRUCTIONS = """\
Answer the question below. Think first, inside <think> and </think>. If you lack a fact, search for it by writing \
<search>your query</search>; the passages that were found follow between <result> and </result>. You can search \
several times. As soon as you know enough, give only the answer itself, without explanation, like this: \
<answer>Beijing</answer>.
"""

TAGS = Dialect(
    name="tags",
    instructions=_INSTRUCTIONS,
    question_open="Question: ",
    question_close="",
    result_open="\n<result>\n",
    hit_open="({n}) ",
    title_close=": ",
    hit_close="\n",
    result_close="</result>\n",
    nothing_found="Nothing was found.\n",
    boxed_instruction="Put the answer in a box, like this: <answer>\\boxed{Beijing}</answer>.\n",
)

BARE = Dialect(
    name="bare",
    instructions="",
    question_open="",
    question_close="",
    result_open="<result>",
    hit_open=" ",
    title_close=" : ",
    hit_close="",
    result_close=" </result>",
    nothing_found="",
    search_limit=" answer !",
    complaint=" ? {why}",
)

CHAT = dataclasses.replace(
    TAGS,
    name="chat",
    instructions=_INSTRUCTIONS.replace(
        "the passages that were found follow between <result> and </result>",
        "end your message there, and the next one brings the passages that were found, between <result> and </result>",
    ),
    result_open="<result>\n",
    result_close="</result>",
    as_messages=True,
)
"""The paper's tags with every result as a user message, for chat endpoints and models: another prompt than TAGS."""

SEARCH_R1 = dataclasses.replace(
    TAGS,
    name="search_r1",
    instructions="""\
Answer the question at the end. Whenever you have new information, reason about it first, inside <think> and </think>. \
If you find that you lack some knowledge, you can call a search engine by <search> query </search>, and it returns the \
top results between <information> and </information>. You can search as often as you want. When no further knowledge \
is needed, give the answer inside <answer> and </answer>, without detailed illustrations, for example \
<answer> Beijing </answer>. """,
    question_close="\n",
    result_open="\n\n<information>",
    hit_open="Doc {n}(Title: ",
    title_close=") ",
    hit_close="\n",
    result_close="</information>\n\n",
    complaint="This action is invalid: {why}. Start a query with <search>, an answer with <answer>, and close both.",
)
"""Search-R1's tags and result layout (Jin et al. 2025, https://arxiv.org/abs/2503.09516); the instructions say what its
do, in our words. ``dataclasses.replace(SEARCH_R1, instructions=…)`` takes a checkpoint's own."""

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (TAGS, BARE, CHAT, SEARCH_R1)}
