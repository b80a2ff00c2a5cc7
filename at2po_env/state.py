"""Everything an episode is, as frozen values: questions, segments of text, actions, turns and states.

An :class:`EpisodeState` is a node of a persistent linked list: it points at the state before it and adds one turn.
Taking a snapshot is taking a reference, so it costs the same at any depth, and two futures share their past.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from at2po_env.snapshots import chain, finite, one_of, read_form, typed
from search_backend.base import Hit, Passage

FORMAT = "at2po-episode/2"


class Segment(NamedTuple):
    """A piece of rendered text. Scaffold (``data=False``) is ours; data (questions, passages) is never trusted."""

    text: str
    data: bool


Text = tuple[Segment, ...]


class UserMessage(tuple[Segment, ...]):
    """A rendered observation that is a chat message of the user; any other one goes on inside the assistant's."""

    __slots__ = ()


class ToolMessage(tuple[Segment, ...]):
    """A rendered observation that is a chat message of the tool, in answer to the call in the turn before it."""

    __slots__ = ()


class ToolPrompt(tuple[Segment, ...]):
    """A rendered first prompt that comes with tools, each a JSON schema in OpenAI's ``function`` form."""

    tools: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, text: Text, tools: tuple[Mapping[str, Any], ...]) -> ToolPrompt:
        """``text`` with ``tools``."""
        prompt = cls(text)
        prompt.tools = tools
        return prompt


def plain(text: Text) -> str:
    """Join the segments of a rendered text."""
    return "".join(segment.text for segment in text)


def text_parts(text: Text) -> Iterator[str]:
    """A rendered text as strings for ``chain``."""
    return (part for piece, data in text for part in ("data" if data else "scaffold", piece))


def text_to_json(text: Text) -> list[list[Any]]:
    """A rendered text as plain JSON values."""
    return [[piece, data] for piece, data in text]


def text_from_json(stored: Any) -> Text:
    """Read :func:`text_to_json` back.

    Raises:
        TypeError, ValueError: it is something else.
    """
    return tuple(Segment(typed(piece, str), typed(data, bool)) for piece, data in stored)


@dataclass(frozen=True)
class Question:
    """One question with its gold answers (any of them counts) and, where known, the titles that support it.

    ``metadata`` holds JSON values only, so that a snapshot can carry it.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    supporting_titles: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)


ActionKind = Literal["search", "answer", "malformed"]


@dataclass(frozen=True, slots=True)
class Action:
    """A parsed action: its kind, its content where it has one, and why it is malformed where it is."""

    kind: ActionKind
    content: str | None = None
    why: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """The action as ``info``, transcripts and records hold it."""
        return {"kind": self.kind, "content": self.content, "why": self.why}


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: the raw action text, how it was parsed, and what it brought."""

    text: str
    action: Action
    observation: Text
    hits: tuple[Hit, ...]
    reward: float


EndReason = Literal["answer", "malformed", "search_limit", "turn_limit", "length_limit"]


@dataclass(frozen=True, eq=False)
class EpisodeState:
    """An episode after ``depth`` turns. Equality and hash are its ``digest``'s.

    ``digest`` is a chain: the root's covers the question and ``rules``, which covers the dialect, the limits, ``k``,
    the reward and the corpus manifest; every later one covers its parent's digest, the action as text and as it was
    parsed, the hits, the observation and what the turn changed. It is a content address: two states with equal
    digests continue alike.

    Build one with :meth:`begin`, :meth:`after` and :meth:`close`, which keep the chain.
    """

    question: Question
    digest: str
    rules: str
    parent: EpisodeState | None = field(default=None, repr=False)
    turn: Turn | None = field(default=None, repr=False)
    depth: int = 0
    searches: int = 0
    notified: bool = False  # the search limit was reached and the notice that asks for an answer was given
    ended: EndReason | None = None
    closed: float | None = None  # the reward of being ended from outside, beside the turns' own; None where it was not
    played: bool = field(default=True, repr=False)  # here or in a pickle; False: read from JSON, ``restore`` checks it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EpisodeState) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        # The chain is pickled (and copied) as a flat list: a linked list of 10,000 turns would exhaust the stack.
        links = tuple(
            (s.turn, s.searches, s.notified, s.ended, s.closed, s.digest) for s in reversed(list(self.lineage()))
        )
        return _relink, (self.question, self.rules, links)

    @classmethod
    def begin(cls, question: Question, rules: str) -> EpisodeState:
        """The state before the first turn, under rules of this digest."""
        try:
            described = json.dumps(question_to_json(question), sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(f"question {question.id!r}: its metadata must be JSON values: {error}") from error
        return cls(question, chain(rules, described), rules)

    def after(self, turn: Turn, *, searches: int, notified: bool, ended: EndReason | None) -> EpisodeState:
        """The state after one more turn."""
        changed = f"{searches} {notified} {ended} {turn.reward!r}"
        action = repr((turn.action.kind, turn.action.content, turn.action.why))
        found = ((hit.passage, hit.score) for hit in turn.hits)
        hits = (part for p, score in found for part in ("hit", p.id, p.title, p.text, repr(float(score))))
        digest = chain(self.digest, turn.text, action, changed, *text_parts(turn.observation), *hits)
        return EpisodeState(
            self.question,
            digest,
            self.rules,
            self,
            turn,
            self.depth + 1,
            searches,
            notified,
            ended,
            played=self.played,
        )

    def close(self, reason: EndReason, reward: float) -> EpisodeState:
        """This state, ended from outside with ``reward``."""
        digest = chain(self.digest, "closed", reason, repr(reward))
        return dataclasses.replace(self, digest=digest, ended=reason, closed=reward)

    def turns(self) -> tuple[Turn, ...]:
        """The turns from the first to the last."""
        return tuple(reversed([state.turn for state in self.lineage() if state.turn is not None]))

    def lineage(self) -> Iterator[EpisodeState]:
        """This state and all before it, newest first."""
        node: EpisodeState | None = self
        while node is not None:
            yield node
            node = node.parent

    def to_json(self) -> dict[str, Any]:
        """The state and its whole past as plain JSON values; :meth:`from_json` reads it back."""
        past = [state for state in reversed(list(self.lineage())) if state.turn is not None]
        return {
            "format": FORMAT,
            "question": question_to_json(self.question),
            "rules": self.rules,
            "turns": [_link_to_json(state) for state in past],
            "closed": None if self.closed is None else {"reason": self.ended, "reward": self.closed},
            "digest": self.digest,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EpisodeState:
        """Rebuild a state from :meth:`to_json` and check it against its own digest.

        Raises:
            SnapshotError: a field is missing or of the wrong type, or the content does not match the digest.
        """

        def rebuild() -> EpisodeState:
            state = cls.begin(question_from_json(data["question"]), typed(data["rules"], str))
            state = dataclasses.replace(state, played=False)
            for link in typed(data["turns"], list, tuple):
                state = _link_from_json(state, link)
            if data["closed"] is not None:
                closed = data["closed"]
                state = state.close(one_of(closed["reason"], EndReason), finite(closed["reward"]))
            return state

        return read_form(data, FORMAT, rebuild)


_Link = tuple[Turn | None, int, bool, EndReason | None, float | None, str]


def _relink(question: Question, rules: str, links: tuple[_Link, ...]) -> EpisodeState:
    state: EpisodeState | None = None
    for depth, (turn, searches, notified, ended, closed, digest) in enumerate(links):
        state = EpisodeState(question, digest, rules, state, turn, depth, searches, notified, ended, closed)
    assert state is not None  # the root is always among the links
    return state


def question_to_json(question: Question) -> dict[str, Any]:
    """A question as plain JSON values."""
    return {
        "id": question.id,
        "question": question.question,
        "answers": list(question.answers),
        "supporting_titles": list(question.supporting_titles),
        "metadata": dict(question.metadata),
    }


def question_from_json(data: Mapping[str, Any]) -> Question:
    """Read :func:`question_to_json` back.

    Raises:
        KeyError, TypeError: it is something else.
    """
    answers, titles = (tuple(typed(one, str) for one in typed(data[name], list, tuple)) for name in _LISTS)
    return Question(
        typed(data["id"], str), typed(data["question"], str), answers, titles, typed(data["metadata"], dict)
    )


_LISTS = ("answers", "supporting_titles")


def _link_to_json(state: EpisodeState) -> dict[str, Any]:
    turn = state.turn
    assert turn is not None
    return {
        "text": turn.text,
        "action": [turn.action.kind, turn.action.content, turn.action.why],
        "observation": text_to_json(turn.observation),
        "hits": [[h.passage.id, h.passage.title, h.passage.text, h.score] for h in turn.hits],
        "reward": turn.reward,
        "searches": state.searches,
        "notified": state.notified,
        "ended": state.ended if state.closed is None else None,
    }


def _link_from_json(state: EpisodeState, link: Mapping[str, Any]) -> EpisodeState:
    kind, content, why = link["action"]
    optional = (str, type(None))
    turn = Turn(
        text=typed(link["text"], str),
        action=Action(one_of(kind, ActionKind), typed(content, *optional), typed(why, *optional)),
        observation=text_from_json(link["observation"]),
        hits=tuple(
            Hit(Passage(typed(id_, str), typed(title, str), typed(text, str)), finite(score))
            for id_, title, text, score in link["hits"]
        ),
        reward=finite(link["reward"]),
    )
    ended = link["ended"]
    return state.after(
        turn,
        searches=typed(link["searches"], int),
        notified=typed(link["notified"], bool),
        ended=None if ended is None else one_of(ended, EndReason),
    )
