"""The rules of an episode, pure: what a turn does to a state. Searching itself happens elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from at2po_env.dialects import DIALECT, Dialect
from at2po_env.scoring import REWARD, Outcome, Reward, judge
from at2po_env.snapshots import chain
from at2po_env.state import Action, EndReason, EpisodeState, Text, Turn
from search_backend.base import Hit
from search_backend.components import Origin

OnMalformed = Literal["end", "continue"]
NO_TEXT: Text = ()


@dataclass(frozen=True)
class Rules:
    """Rules and reward of an episode; ``Rules.of`` makes them from names and plain values.

    A turn is, in this order of precedence: an answer, which ends the episode; malformed, which ends it too unless
    ``on_malformed`` is ``"continue"``; a search after the notice, which truncates it; the last allowed turn, which
    truncates it unread; a search past the limit, which is not run and brings the notice; or a search.
    """

    dialect: Dialect
    reward: Reward
    k: int = 3  # passages per search
    max_searches: int = 6  # that are run; the first one past them brings a notice that asks for the answer
    max_turns: int | None = None  # None: every search, the notice and the answer have room
    max_observation_chars: int = 6000  # of titles and texts that one result may show
    on_malformed: OnMalformed = "end"  # the episode, or bring an error and "continue"
    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False)  # of components that are not built in

    @classmethod
    def of(
        cls,
        *,
        dialect: str | Mapping[str, Any] | Dialect = "tags",
        reward: str | Mapping[str, Any] | Reward = "em_or_format",
        require_think: bool = False,
        require_boxed: bool = False,
        **limits: Any,
    ) -> Rules:
        r"""Rules from plain values, as the Gymnasium ids take them.

        Args:
            dialect: a name in ``at2po_env.dialects.DIALECTS``, ``module:attribute`` of your own, a mapping of ``name``
                and the fields that differ, or a dialect.
            reward: ``em``, ``f1``, ``em_or_format``, ``module:attribute`` of your own, a mapping of ``name`` and its
                settings, or a function of an :class:`~at2po_env.scoring.Outcome`.
            require_think: an action without a thought before it is malformed.
            require_boxed: an answer without ``\boxed{…}`` is malformed.
            **limits: the other fields: ``k``, ``max_searches``, ``max_turns``, …

        Raises:
            TypeError: there is no such field.
            ValueError: there is no such dialect or reward, or a limit is out of range.
        """
        spoken: Dialect = DIALECT.made(dialect, "dialect")
        if require_think or require_boxed:
            think, boxed = spoken.require_think or require_think, spoken.require_boxed or require_boxed
            spoken = replace(spoken, require_think=think, require_boxed=boxed)
        rewarded: Reward = REWARD.made(reward, "reward")
        named = {"dialect": DIALECT.origin(dialect), "reward": REWARD.origin(reward)}
        origins = {kind: origin for kind, origin in named.items() if origin}
        return cls(spoken, rewarded, origins=origins, **limits)

    def __post_init__(self) -> None:
        for name, least in (("k", 1), ("max_searches", 0), ("max_turns", 1), ("max_observation_chars", 1)):
            value = getattr(self, name)
            if name == "max_turns" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
        if self.on_malformed not in get_args(OnMalformed):
            raise ValueError(f"on_malformed must be one of {get_args(OnMalformed)}, got {self.on_malformed!r}")

    @property
    def turn_limit(self) -> int:
        """Turns that an episode may have."""
        return self.max_searches + 2 if self.max_turns is None else self.max_turns

    @property
    def limits(self) -> dict[str, Any]:
        """The limits by name, as manifests hold them."""
        return {
            "k": self.k,
            "max_searches": self.max_searches,
            "max_turns": self.turn_limit,
            "max_observation_chars": self.max_observation_chars,
            "on_malformed": self.on_malformed,
        }

    @property
    def reward_name(self) -> str:
        """The reward function by module and name."""
        return f"{getattr(self.reward, '__module__', '')}.{getattr(self.reward, '__qualname__', repr(self.reward))}"

    def digest(self, corpus: str) -> str:
        """Digest of everything that decides an episode beside its question; ``corpus`` is a manifest's digest."""
        limits = (self.k, self.max_searches, self.turn_limit, self.max_observation_chars, self.on_malformed)
        return chain("rules", self.dialect.digest, *map(str, limits), self.reward_name, corpus)

    def query(self, state: EpisodeState, action: Action) -> str | None:
        """The query that must be run before :meth:`advance`; None where this action runs no search."""
        runs = action.kind == "search" and state.searches < self.max_searches and state.depth + 1 < self.turn_limit
        return action.content if runs else None

    def advance(self, state: EpisodeState, text: str, action: Action, hits: Sequence[Hit]) -> EpisodeState:
        """The state after the turn ``text``, parsed as ``action``, whose query found ``hits``."""
        searches, notified, observation = state.searches, state.notified, NO_TEXT
        ended = self._end(state, action)
        if ended is not None:
            reward = float(self.reward(self._judge(state, ended, action, state.depth + 1)))
            turn = Turn(text, action, NO_TEXT, (), reward)
            return state.after(turn, searches=searches, notified=notified, ended=ended)
        if action.kind == "malformed":
            observation = self.dialect.error(action)
        elif searches < self.max_searches:
            searches, observation = searches + 1, self.dialect.result(hits, self.max_observation_chars)
        else:
            notified, observation = True, self.dialect.notice()
        turn = Turn(text, action, observation, tuple(hits), 0.0)
        return state.after(turn, searches=searches, notified=notified, ended=None)

    def _end(self, state: EpisodeState, action: Action) -> EndReason | None:
        if action.kind == "answer":
            return "answer"
        if action.kind == "malformed" and self.on_malformed == "end":
            return "malformed"
        if action.kind == "search" and state.notified:
            return "search_limit"
        return "turn_limit" if state.depth + 1 >= self.turn_limit else None

    def close(self, state: EpisodeState, reason: EndReason) -> EpisodeState:
        """The state ended from outside, rewarded as an episode without an answer."""
        return state.close(reason, float(self.reward(self._judge(state, reason, None, state.depth))))

    def outcome(self, state: EpisodeState) -> Outcome | None:
        """The outcome of the episode; None while it goes on."""
        if state.ended is None:
            return None
        return self._judge(state, state.ended, state.turn.action if state.turn else None, state.depth)

    def _judge(self, state: EpisodeState, ended: EndReason, action: Action | None, turns: int) -> Outcome:
        prediction = action.content if ended == "answer" and action is not None else None
        return judge(state.question, ended, prediction, state.searches, turns)
