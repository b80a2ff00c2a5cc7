"""Dialects with inline tags: how a question is put, how a turn is written and read, and how results are shown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from at2po_env.rendering import cut, followed_by, text_of
from at2po_env.snapshots import chain
from at2po_env.state import Action, ActionKind, Text, UserMessage, plain
from at2po_env.tasks import Chat
from at2po_env.turn_text import first_span, last_boxed, without_thoughts
from search_backend.base import Hit


@dataclass(frozen=True)
class Dialect:
    r"""One way of talking to the model with inline tags. Another one differs in strings, or in some methods.

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
        if self.tools:
            described["tools"] = self.tools
        return chain("dialect", json.dumps(described, sort_keys=True))

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """Tools that the model is told of beside the prompt, as OpenAI's JSON schemas; none here."""
        return ()

    @property
    def chat(self) -> Chat | None:
        """Settings for chat endpoints; None where results are parts of the model's own message."""
        # To cut a native call short would hide it from the endpoint's parser.
        stop = (f"</{self.answer}>",) if self.tools else self.stop
        return Chat(stop, self.think, self.tools) if self.as_messages else None

    def prompt(self, question: str) -> Text:
        """The prompt."""
        instructions = self.instructions + (self.boxed_instruction if self.require_boxed else "")
        opening = instructions + self.question_open
        return text_of(*followed_by(opening, question), (self.question_close, False))

    def result(self, hits: Sequence[Hit], max_chars: int) -> Text:
        """The answer to a search: hits in order until their titles and texts fill ``max_chars`` characters.

        The hit that crosses the limit is cut and marked with ``…``; scaffold is never cut.
        """
        pieces = [(self.result_open, False)]
        left = max_chars
        for rank, hit in enumerate(hits, start=1):
            if left <= 0:
                break
            title = cut(hit.passage.title, left)
            left -= len(title)
            text = cut(hit.passage.text, left)
            left -= len(text)
            pieces += followed_by(self.hit_open.replace("{n}", str(rank)), title)
            pieces += [*followed_by(self.title_close, text), (self.hit_close, False)]
        if not hits:
            pieces.append((self.nothing_found, False))
        return self.placed(text_of(*pieces, (self.result_close, False)), "search")

    def result_bytes(self, k: int, max_chars: int) -> int:
        """Bytes of UTF-8 that no result of ``k`` hits exceeds."""
        around = len((self.hit_open + self.title_close + self.hit_close).encode()) + 2
        return 4 * max_chars + k * around + len(plain(self.result((), 1)).encode())

    def placed(self, observation: Text, after: ActionKind) -> Text:
        """The observation after an action, in this dialect's form: inline text, or a ``UserMessage``."""
        return UserMessage(observation) if self.as_messages and observation else observation

    def notice(self) -> Text:
        """The notice after the first search past the limit, which asks for the answer."""
        return self._say(self.search_limit, "search")

    def error(self, action: Action) -> Text:
        """The error message after a malformed action where the episode goes on."""
        return self._say(self.complaint.replace("{why}", action.why or "malformed"), "malformed")

    def _say(self, message: str, after: ActionKind) -> Text:
        pieces = (self.result_open, message, self.hit_close, self.result_close)
        return self.placed(text_of(*((piece, False) for piece in pieces)), after)

    def parse(self, text: str) -> Action:
        """Read one turn: the first complete search or answer outside thoughts. Linear in ``len(text)``."""
        return self.split(text)[1]

    def split(self, text: str) -> tuple[str, Action]:
        """Split a turn into the text before its action, thoughts included, and the action; or all of it and none."""
        spoken = without_thoughts(text, self.think)
        found = [
            (start, inner, read)
            for read, tag in ((self._read_search, self.search), (self._read_answer, self.answer))
            if (span := first_span(spoken.text, tag)) is not None
            for start, inner in (span,)
        ]
        if not found:
            return text, Action("malformed", why=f"no complete <{self.search}> or <{self.answer}>")
        start, inner, read = min(found, key=lambda one: one[0])
        before = text[: spoken.place(start)]
        if self.require_think and (spoken.first_thought is None or spoken.first_thought > start):
            return before, Action("malformed", why=f"no <{self.think}> before the action")
        return before, read(inner)

    def _read_search(self, inner: str) -> Action:
        query = inner.strip()
        return Action("search", query) if query else Action("malformed", why="the query is empty")

    def _read_answer(self, inner: str) -> Action:
        boxed = last_boxed(inner)
        if boxed is None and self.require_boxed:
            return Action("malformed", why="the answer has no \\boxed{}")
        answer = (inner if boxed is None else boxed).strip()
        return Action("answer", answer) if answer else Action("malformed", why="the answer is empty")

    def write(self, action: Action) -> str:
        """The turn that does only ``action``, with an empty thought where one is required; :meth:`parse` reads it back.

        Raises:
            ValueError: no turn of this dialect does this, as its content is empty or would be read as something else.
        """
        content = (action.content or "").strip()
        turn = self._write_search(content) if action.kind == "search" else self._write_answer(content)
        if self.require_think:
            turn = f"<{self.think}> </{self.think}>{turn}"
        if self.parse(turn) != Action(action.kind, content):
            raise ValueError(f"dialect {self.name!r} has no turn that does {action}")
        return turn

    def _write_search(self, query: str) -> str:
        # The space goes to the content: tokenizers make one token of a word and the space before it.
        return f"<{self.search}> {query}</{self.search}>"

    def _write_answer(self, answer: str) -> str:
        content = f"\\boxed{{{answer}}}" if self.require_boxed else answer
        return f"<{self.answer}> {content}</{self.answer}>"
