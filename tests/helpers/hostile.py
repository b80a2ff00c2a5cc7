"""Hostile texts, and what must hold whoever writes them: as a question, a passage, a model's turn or a search query.

``Reader`` stands for everything that reads text which others wrote, with one tokenizer and one dialect. Its methods
raise ``Escape`` where a text became more than data, and let through whatever else is raised.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args

from at2po_agent.policy.codec import Codec
from at2po_agent.terminal import visible
from at2po_env.chat import messages, turn_text
from at2po_env.dataset import Dataset
from at2po_env.dialect import Dialect
from at2po_env.dialects import DIALECTS
from at2po_env.rendering import OPENS_A_TAG
from at2po_env.rules import Rules
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import ActionKind, EndReason, EpisodeState, Question, Segment, Text, plain
from search_backend.base import Hit, Passage, SearchBackend
from search_backend.embedded.backend import EmbeddedIndex
from tests.helpers import real_tokenizers

TAGS = [
    f"<{slash}{tag}>"
    for tag in ("think", "search", "answer", "result", "information", "tool_call", "tool_response", "tools")
    for slash in ("", "/")
]
ODD = [
    *(chr(code) for code in range(0x20)),  # control characters, NUL and escape among them
    *("\x7f", "\x85", "\x9b", "\u2028", "\u2029", "\ufeff", "\ufffd", "\uffff", "\U0010ffff", "\U000e0001"),
    *("\u061c", "\u200b", "\u200d", "\u200e", "\u200f", "\u202a", "\u202b", "\u202c", "\u202d", "\u202e"),
    *("\u2066", "\u2067", "\u2068", "\u2069", "\u034f", "\u0338", "A\u030a", "\u226e", "\uff1c", "\ufe64", "\ufb01"),
    *("\ud800", "\udbff", "\udc00", "\udfff", "\ud83d\ude00", "\ude00\ud83d", "\U0001f600", "\u0130", "ß", "ſ"),
    *("\x1b[2J", "\x1b]0;title\x07", "\r\n", "\u0600", "क्ष", "한", "Ġ", "Ċ", "▁", "<0x0A>"),
]
SYNTAX = [
    *("<", ">", "</", "/>", "<|", "|>", "<｜", "‹", "< ", "<3", "<=", "&lt;", "%3C", "\\u003c", "<!--", "]]>"),
    *("\\boxed{", "{", "}", "{{", "}}", "{% raw %}", "{#", "DATA0DATA", "DATA", "@the-assistant-turn@", "@the-query@"),
    *(
        '{"name": "search", "arguments": {"query": "',
        '"}}',
        '{"name": "search"',
        '"arguments"',
        "\\ud800",
        "\\",
        '"',
        "'",
    ),
    *("[[[[", "1e999999", "9" * 400, "NaN", "null", "true", "-Infinity", "{n}", "{why}", "(2) ", "Doc 1(Title: "),
    *(
        "AND",
        "OR NOT",
        "title:",
        "*",
        "?",
        "~2",
        "^9",
        "+",
        "-",
        "(",
        ")",
        "[a TO b]",
        "/.*/",
        "\\x",
        ":",
        "!",
        "%",
        "_",
    ),
]
WORDS = [
    "Paris",
    "Who founded it",
    "1842",
    "the",
    " ",
    "  ",
    "\n",
    "\t",
    "a",
    "x" * 300,
    "Answer:",
    "user",
    "assistant",
]

MEGABYTE = 1_000_000  # characters


class Escape(AssertionError):
    """Text that others wrote became more than data; the message says where and which."""


def atoms() -> list[str]:
    """The pieces that hostile texts are made of; every added token of the three tokenizers is one."""
    tokenizers = [real_tokenizers.load(name) for name in real_tokenizers.NAMES]
    added = {token.content for one in tokenizers for token in one.added_tokens_decoder.values()}
    near = {f"{token[0]} {token[1:]}" for token in added if len(token) > 1} | {token[:-1] for token in added}
    return [*TAGS, *ODD, *SYNTAX, *WORDS, *sorted(added | near), *(tag.upper() for tag in TAGS)]


def texts(seed: int, number: int, pieces: Sequence[str], megabytes: int = 0) -> Iterator[str]:
    """So many texts of pieces: most are short, one in a hundred has thousands of characters, some have a million."""
    draw = random.Random(seed)
    for n in range(number):
        if n < megabytes:  # one piece or a few, over and over, on one line
            unit = "".join(draw.choices(pieces, k=1 + n % 3)).replace("\n", " ") or " "
            yield (unit * (MEGABYTE // len(unit) + 1))[:MEGABYTE]
        else:
            yield "".join(draw.choices(pieces, k=int(draw.expovariate(0.25)) if n % 100 else draw.randrange(500)))


def open_readers(names: Sequence[str], folder: Path) -> list[Reader]:
    """A reader for every tokenizer and dialect that go together, over one index of hostile passages."""
    passages = [Passage(f"p{n}", text[:50], text) for n, text in enumerate(texts(99, 300, atoms()))]
    search = EmbeddedIndex.build(folder / "index", passages)
    readers = []
    for tokenizer in map(real_tokenizers.load, names):
        codec = Codec(tokenizer)
        for dialect in DIALECTS.values():
            if not dialect.tools or "tools" in tokenizer.chat_template:
                readers.append(Reader(codec, dialect, search))
    return readers


class Reader:
    """What reads others' texts, opened with one tokenizer and one dialect over one search."""

    def __init__(self, codec: Codec, dialect: Dialect, search: SearchBackend) -> None:
        self.codec, self.dialect, self.search = codec, dialect, search
        self.control = frozenset(codec.tokenizer.added_tokens_decoder)
        rules = Rules.of(dialect=dialect, max_searches=2)
        env = SearchQAEnv(Dataset.of([Question("q", "Who?", ("Paris",))]), search, rules)
        env.reset(seed=0)
        self.env, self.root = env, env.snapshot()
        question, passage = self._prompt("plain"), self._result("plain")
        self.scaffolds = {"question": self._scaffold(question), "passage": self._scaffold(passage)}
        self.controls = {
            "question": self._controls(self.codec.prompt(question)),
            "passage": self._controls(self.codec.observation(passage)),
        }

    @property
    def parts(self) -> tuple[Callable[[str], None], ...]:
        """The parts that a text can play."""
        return self.question, self.passage, self.turn, self.query

    def question(self, text: str) -> None:
        """As the question of a prompt."""
        self._stays_data("question", text, self._prompt(text))

    def passage(self, text: str) -> None:
        """As the title and the text of a passage that a search found."""
        rendered = self._result(text)
        self._stays_data("passage", text, rendered)
        if self.dialect.parse(plain(rendered)).kind != "malformed":
            raise Escape(f"a passage acts: {text[:500]!r}")

    def turn(self, text: str) -> None:
        """As what the model says: it has one of the outcomes that there are, and leaves a state that can be kept."""
        self.env.restore(self.root)
        observation, reward, terminated, truncated, info = self.env.step(text)
        kind, ended = info["action"]["kind"], info.get("ended")
        expected = {"answer": (True, False), "malformed": (True, False), "search": (False, False)}
        if kind not in get_args(ActionKind) or (terminated, truncated) != expected[kind]:
            raise Escape(f"no such outcome: {kind}, {terminated}, {truncated} of {text[:500]!r}")
        if (ended is None) != (kind == "search") or not (ended is None or ended in get_args(EndReason)):
            raise Escape(f"ends as {ended}: {text[:500]!r}")
        if not -1.0 <= reward <= 1.0 or bool(observation) == terminated:
            raise Escape(f"reward {reward}, observation {observation[:100]!r} of {text[:500]!r}")
        if len(text) < 1000:
            self._can_be_kept(self.env.snapshot())

    def query(self, text: str) -> None:
        """As a search query: it finds at most what was asked for, and what it finds stays data."""
        (hits,) = self.search.search([text], 2)
        if len(hits) > 2:
            raise Escape(f"{len(hits)} hits for 2 of {text[:500]!r}")
        if any(segment.data and OPENS_A_TAG.search(segment.text) for segment in self.dialect.result(hits, 6000)):
            raise Escape(f"what was found opens a tag: {text[:500]!r}")

    def _prompt(self, text: str) -> Text:
        return self.dialect.prompt(text)

    def _result(self, text: str) -> Text:
        return self.dialect.result(
            [Hit(Passage("1", text, text), 2.0), Hit(Passage("2", "Paris", "A town."), 1.0)], 6000
        )

    def _scaffold(self, rendered: Text) -> list[str]:
        """The pieces that are ours; the space before a datum is its own where there is one."""
        pieces = [segment.text.removesuffix(" ") for segment in rendered if not segment.data]
        return [piece for piece in pieces if piece]

    def _controls(self, ids: Sequence[int]) -> list[int]:
        return [token for token in ids if token in self.control]

    def _stays_data(self, what: str, text: str, rendered: Text) -> None:
        expected, scaffold = self.scaffolds[what], self._scaffold(rendered)
        is_cut = len(text) > 1000  # hits that have no room any more are left out
        if scaffold != expected and not (is_cut and set(scaffold) <= set(expected) and scaffold[-1] == expected[-1]):
            raise Escape(f"a {what} changes the scaffold: {text[:500]!r}")
        if any(segment.data and OPENS_A_TAG.search(segment.text) for segment in rendered):
            raise Escape(f"a {what} opens a tag: {text[:500]!r}")
        encode = self.codec.prompt if what == "question" else self.codec.observation
        whole = not is_cut or (what == "question" and len(text) >= MEGABYTE)  # a question is never cut
        if whole and self._controls(encode(rendered)) != self.controls[what]:
            raise Escape(f"a {what} becomes a control token: {text[:500]!r}")
        careless = self.codec.observation(
            (Segment(text[:6000], True),)
        )  # as a dialect would pass it that let tags through
        if not self.control.isdisjoint(careless):
            raise Escape(f"what a {what} says becomes a control token: {text[:500]!r}")

    def _can_be_kept(self, state: EpisodeState) -> None:
        stored = json.dumps(state.to_json(), ensure_ascii=False).encode()
        if EpisodeState.from_json(json.loads(stored)).digest != state.digest:
            raise Escape(f"a state changes when it is stored: {state.turn!r}")
        assert state.turn is not None
        for message in messages(self.dialect, state):
            turn_text(message).encode()
        if any((ord(c) < 0x20 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in visible(state.turn.text)):
            raise Escape(f"steers a terminal: {state.turn.text!r}")
