"""``Episode``: the snapshot of environments whose episodes are a list of turns and a state of JSON values.

Like ``EpisodeState`` it is a node of a persistent linked list: taking a snapshot is taking a reference, two futures
share their past, and the digest is an address of the content. ``ToolEnv`` uses it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from at2po_env.snapshots import chain, finite, read_form, typed
from at2po_env.state import Text, text_from_json, text_parts, text_to_json
from at2po_env.tasks import TurnView

FORMAT = "at2po-turns/1"


@dataclass(frozen=True, slots=True)
class EpisodeTurn:
    """One turn: what the model wrote, how it was read, and what came back."""

    text: str
    action: str  # how it was read, as JSON: kind, content, why
    observation: Text
    reward: float

    def view(self) -> TurnView:
        """The turn as transcripts show it."""
        return TurnView(self.text, json.loads(self.action), self.observation, self.reward)


@dataclass(frozen=True, eq=False)
class Episode:
    """An episode after ``depth`` turns. Equality and hash are its ``digest``'s.

    Build one with :meth:`begin`, :meth:`after` and :meth:`close`, which keep the chain of digests: the root's covers
    the task and ``rules``, every later one its parent's and everything that its turn changed.
    """

    task_id: str
    rules: str  # digest of everything that decides the episode besides the task
    digest: str
    state: str = "null"  # of the environment after the last turn, as JSON
    parent: Episode | None = field(default=None, repr=False)
    turn: EpisodeTurn | None = field(default=None, repr=False)
    depth: int = 0
    ended: str | None = None
    scores: tuple[tuple[str, float], ...] = ()  # the metrics of an episode that has ended
    closed: float | None = None  # the reward of being ended from outside; None where it was not
    played: bool = field(default=True, repr=False)  # here or in a pickle; False: read from JSON, to be checked

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Episode) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        # As a flat list: a linked list of 10,000 turns would exhaust the stack.
        links = tuple((e.digest, e.state, e.turn, e.ended, e.scores, e.closed) for e in reversed(list(self.lineage())))
        return _relink, (self.task_id, self.rules, links)

    @classmethod
    def begin(cls, task_id: str, rules: str, state: Any = None) -> Episode:
        """The episode before its first turn.

        Raises:
            TypeError: the state is not made of JSON values.
        """
        stored = _as_json(state, f"the state of task {task_id!r}")
        return cls(task_id, rules, chain(rules, task_id, stored), stored)

    def after(
        self, turn: EpisodeTurn, state: Any = None, ended: str | None = None, scores: Mapping[str, float] | None = None
    ) -> Episode:
        """The episode after one more turn.

        Args:
            turn: it.
            state: of the environment after it, of JSON values.
            ended: why the turn ended the episode, in a word; None where it goes on.
            scores: the metrics, where the episode has ended.
        """
        stored = _as_json(state, f"the state of task {self.task_id!r} after turn {self.depth + 1}")
        kept = tuple(sorted((scores or {}).items()))
        changed = (
            turn.text,
            turn.action,
            repr(turn.reward),
            stored,
            repr(ended),
            repr(kept),
            *text_parts(turn.observation),
        )
        return dataclasses.replace(
            self,
            digest=chain(self.digest, *changed, *text_parts(turn.observation)),
            state=stored,
            parent=self,
            turn=turn,
            depth=self.depth + 1,
            ended=ended,
            scores=kept,
        )

    def close(self, reason: str, reward: float, scores: Mapping[str, float]) -> Episode:
        """This episode, ended from outside with ``reward``."""
        kept = tuple(sorted(scores.items()))
        digest = chain(self.digest, "closed", reason, repr(reward), repr(kept))
        return dataclasses.replace(self, digest=digest, ended=reason, scores=kept, closed=reward)

    def lineage(self) -> Iterator[Episode]:
        """This episode and all before it, newest first."""
        node: Episode | None = self
        while node is not None:
            yield node
            node = node.parent

    def turns(self) -> tuple[EpisodeTurn, ...]:
        """The turns from the first to the last."""
        return tuple(reversed([episode.turn for episode in self.lineage() if episode.turn is not None]))

    def to_json(self) -> dict[str, Any]:
        """The episode and its whole past as JSON values; :meth:`from_json` reads it back."""
        past = list(reversed(list(self.lineage())))
        return {
            "format": FORMAT,
            "task_id": self.task_id,
            "rules": self.rules,
            "state": json.loads(past[0].state),
            "turns": [_link_to_json(episode) for episode in past[1:]],
            "closed": None
            if self.closed is None
            else {"reason": self.ended, "reward": self.closed, "scores": dict(self.scores)},
            "digest": self.digest,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Episode:
        """Rebuild an episode from :meth:`to_json` and check it against its own digest.

        Raises:
            SnapshotError: a field is missing or of the wrong type, or the content does not match the digest.
        """

        def rebuild() -> Episode:
            episode = cls.begin(typed(data["task_id"], str), typed(data["rules"], str), data["state"])
            episode = dataclasses.replace(episode, played=False)
            for link in typed(data["turns"], list, tuple):
                episode = _link_from_json(episode, link)
            if data["closed"] is not None:
                closed = data["closed"]
                episode = episode.close(typed(closed["reason"], str), finite(closed["reward"]), _scores(closed))
            return episode

        return read_form(data, FORMAT, rebuild)


_Link = tuple[str, str, EpisodeTurn | None, str | None, tuple[tuple[str, float], ...], float | None]


def _relink(task_id: str, rules: str, links: tuple[_Link, ...]) -> Episode:
    episode: Episode | None = None
    for depth, (digest, state, turn, ended, scores, closed) in enumerate(links):
        episode = Episode(task_id, rules, digest, state, episode, turn, depth, ended, scores, closed)
    assert episode is not None  # the root is always among the links
    return episode


def _as_json(state: Any, what: str) -> str:
    try:
        return json.dumps(state, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{what} must be made of JSON values: {error}") from error


def _link_to_json(episode: Episode) -> dict[str, Any]:
    turn, by_turn = episode.turn, episode.closed is None
    assert turn is not None
    return {
        "text": turn.text,
        "action": json.loads(turn.action),
        "observation": text_to_json(turn.observation),
        "reward": turn.reward,
        "state": json.loads(episode.state),
        "ended": episode.ended if by_turn else None,
        "scores": dict(episode.scores) if by_turn else {},
    }


def _scores(data: Mapping[str, Any]) -> dict[str, float]:
    return {typed(name, str): finite(value) for name, value in typed(data["scores"], dict).items()}


def _link_from_json(episode: Episode, link: Mapping[str, Any]) -> Episode:
    turn = EpisodeTurn(
        text=typed(link["text"], str),
        action=action_json(typed(link["action"], dict)),
        observation=text_from_json(link["observation"]),
        reward=finite(link["reward"]),
    )
    return episode.after(turn, link["state"], typed(link["ended"], str, type(None)), _scores(link))


def action_json(action: Mapping[str, Any]) -> str:
    """A parsed turn as JSON, for an ``EpisodeTurn``."""
    return json.dumps(dict(action), sort_keys=True, ensure_ascii=False)
