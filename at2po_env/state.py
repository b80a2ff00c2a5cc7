"""Everything an episode is, as frozen values: questions, segments of text, actions, turns and states.

An :class:`EpisodeState` is a node of a persistent linked list: it points at the state before it and adds one turn.
Taking a snapshot is taking a reference, so it costs the same at any depth, and two futures share their past.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from search_backend.base import Hit


class Segment(NamedTuple):
    """A piece of rendered text. Scaffold (``data=False``) is ours; data (questions, passages) is never trusted."""

    text: str
    data: bool


Text = tuple[Segment, ...]


def plain(text: Text) -> str:
    """Join the segments of a rendered text."""
    return "".join(segment.text for segment in text)


@dataclass(frozen=True)
class Question:
    """One question with its gold answers (any of them counts) and, where known, the titles that support it."""

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

    ``digest`` is a chain: the root's covers the question, dialect, limits, ``k`` and the corpus manifest; every later
    one covers its parent's digest, the action text and the observation. It is a content address: two states with
    equal digests continue alike.
    """

    question: Question
    digest: str
    parent: EpisodeState | None = field(default=None, repr=False)
    turn: Turn | None = field(default=None, repr=False)
    depth: int = 0
    searches: int = 0
    notified: bool = False  # the search limit was reached and the notice that asks for an answer was given
    ended: EndReason | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EpisodeState) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def turns(self) -> tuple[Turn, ...]:
        """The turns from the first to the last."""
        found: list[Turn] = []
        node: EpisodeState | None = self
        while node is not None and node.turn is not None:
            found.append(node.turn)
            node = node.parent
        return tuple(reversed(found))

    def lineage(self) -> Iterator[EpisodeState]:
        """This state and all before it, newest first."""
        node: EpisodeState | None = self
        while node is not None:
            yield node
            node = node.parent
