"""``SearchQAEnv``: answer a question in turns of thought, search and answer, as a forkable Gymnasium environment."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

from gymnasium.error import ResetNeeded

from at2po_env.core import ForkableEnv, StepResult
from at2po_env.dataset import Dataset
from at2po_env.dialects import Dialect
from at2po_env.rules import Rules
from at2po_env.spaces import UnicodeText
from at2po_env.state import Action, EndReason, EpisodeState, Question, SnapshotError, Text, plain
from search_backend.base import Hit, SearchBackend
from search_backend.outside import well_formed

Order = Literal["random", "file"]
_FROM_OUTSIDE: tuple[EndReason, ...] = ("length_limit", "turn_limit", "search_limit")


class SearchQAEnv(ForkableEnv[EpisodeState]):
    """Questions of one dataset, answered with one search backend. An action is the text of one model turn.

    Args:
        dataset: the questions; ``Dataset.of`` makes one of your own.
        search: finds the passages. It is shared with clones and forks and closed by whoever opened it.
        rules: limits, dialect and reward; ``Rules.of()`` where they are not given.
        order: which question ``reset()`` takes when it is not told one: a random one, or the next of the file.
        copies: environments that share the questions of ``order="file"``; each takes every ``copies``-th of them, from
            the one that its seed picks on: ``make_vec`` seeds its copies with consecutive numbers.
        render_mode: ``"ansi"`` makes ``render()`` return the episode as text.

    ``info`` holds JSON values only: ``question_id``, ``turns``, ``searches``, ``action`` (kind, content, why),
    ``hits`` (id, title, score), and at the end ``ended``, ``em``, ``f1``, ``contains`` and ``prediction``.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 1}  # type: ignore[misc]

    def __init__(
        self,
        dataset: Dataset,
        search: SearchBackend,
        rules: Rules | None = None,
        *,
        order: Order = "random",
        copies: int = 1,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode must be None or 'ansi', got {render_mode!r}")
        if order not in get_args(Order):
            raise ValueError(f"order must be one of {get_args(Order)}, got {order!r}")
        if isinstance(copies, bool) or not isinstance(copies, int) or not 1 <= copies <= len(dataset.questions):
            raise ValueError(
                f"copies must be a whole number from 1 to the {len(dataset.questions)} questions: {copies!r}"
            )
        self.rules = Rules.of() if rules is None else rules
        self.stop = self.rules.dialect.stop
        self.closes_search = False  # whoever opened the search closes it; ``make`` hands that over
        self.dataset = dataset
        self.search = search
        self.order = order
        self.copies = copies
        self.render_mode = render_mode
        self.action_space = UnicodeText()
        self.observation_space = UnicodeText()
        self._by_id = {question.id: question for question in dataset.questions}
        self._rules_digest = self.rules.digest(search.manifest.digest)
        self._state: EpisodeState | None = None
        # Of the file order: questions taken, and where this copy's share begins; None until a seed says which it is.
        self._taken = 0
        self._first = 0 if copies == 1 else None

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions, in file order."""
        return self.dataset.questions

    @property
    def dialect(self) -> Dialect:
        """How the model is talked to."""
        return self.rules.dialect

    @property
    def state(self) -> EpisodeState:
        """The current episode.

        Raises:
            ResetNeeded: there is none yet.
        """
        if self._state is None:
            raise ResetNeeded("call reset() first: there is no episode yet")
        return self._state

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode, or continue one.

        Args:
            seed: seeds the choice of questions.
            options: ``{"question_id": …}`` takes that question; ``{"snapshot": …}`` restores an ``EpisodeState`` or
                its JSON form.

        Raises:
            KeyError: there is no question with this id.
            SnapshotError: the snapshot cannot be used here.
            ValueError: unknown options, or both; or one of several ``copies`` was never seeded.
        """
        super().reset(seed=seed)
        if seed is not None:
            self.take_share(seed)
        options = dict(options or {})
        snapshot, question_id = options.pop("snapshot", None), options.pop("question_id", None)
        if options or (snapshot is not None and question_id is not None):
            raise ValueError(f"reset takes the option question_id or snapshot, got also {sorted(options) or 'both'}")
        if snapshot is None:
            self._state = EpisodeState.begin(self._choose(question_id), self._rules_digest)
        else:
            self.restore(snapshot if isinstance(snapshot, EpisodeState) else EpisodeState.from_json(snapshot))
        return plain(self.observation()), self._info()

    def take_share(self, copy: int) -> None:
        """Start anew with the questions of the file order that are this copy's; numbers count on past ``copies``."""
        self._taken, self._first = 0, copy % self.copies

    def _choose(self, question_id: str | None) -> Question:
        if question_id is not None:
            if question_id not in self._by_id:
                raise KeyError(f"{self.dataset.name} {self.dataset.split} has no question with id {question_id!r}")
            return self._by_id[question_id]
        if self.order == "random":
            return self.questions[int(self.np_random.integers(len(self.questions)))]
        if self._first is None:
            raise ValueError(f"copies={self.copies} share the questions: reset(seed=…) says whose share is whose")
        share = range(self._first, len(self.questions), self.copies)
        self._taken += 1
        return self.questions[share[(self._taken - 1) % len(share)]]

    def step(self, action: str) -> StepResult:
        """Take one turn.

        Raises:
            ResetNeeded: there is no episode, or it has ended.
            SearchError: the search failed; the episode is as it was, and the same turn can be taken again.
        """
        state, text, parsed = self._read(action)
        query = self.rules.query(state, parsed)
        hits = [] if query is None else self.search.search([query], self.rules.k)[0]
        return self._advance(state, text, parsed, hits)

    async def astep(self, action: str) -> StepResult:
        """``step`` that lets other episodes go on while it searches."""
        state, text, parsed = self._read(action)
        query = self.rules.query(state, parsed)
        hits = [] if query is None else (await self.search.asearch([query], self.rules.k))[0]
        return self._advance(state, text, parsed, hits)

    def _read(self, action: str) -> tuple[EpisodeState, str, Action]:
        state = self.state
        if not isinstance(action, str):
            raise TypeError(f"an action is the text of one turn, got {type(action).__name__}")
        if state.ended is not None:
            raise ResetNeeded(f"the episode has ended ({state.ended}): call reset()")
        text = well_formed(action)
        return state, text, self.dialect.parse(text)

    def _advance(self, state: EpisodeState, text: str, action: Action, hits: Sequence[Hit]) -> StepResult:
        self._state = self.rules.advance(state, text, action, hits)
        assert self._state.turn is not None
        return self._result(self._state.turn.reward)

    def end(self, reason: str) -> StepResult:
        """End the episode from outside: truncated, rewarded as an episode without an answer.

        Args:
            reason: ``length_limit`` (no room to generate), ``turn_limit`` or ``search_limit``.
        """
        state = self.state
        if state.ended is not None:
            raise ResetNeeded(f"the episode has ended ({state.ended}): call reset()")
        if reason not in _FROM_OUTSIDE:
            raise ValueError(f"an episode can be ended from outside for {_FROM_OUTSIDE}, got {reason!r}")
        self._state = self.rules.close(state, reason)
        assert self._state.closed is not None
        return self._result(self._state.closed)

    def _result(self, reward: float) -> StepResult:
        ended = self.state.ended
        terminated = ended in ("answer", "malformed")
        return plain(self.observation()), reward, terminated, ended is not None and not terminated, self._info()

    def observation(self) -> Text:
        """What the model reads now: the prompt, or what the last turn brought; nothing where the episode has ended."""
        state = self.state
        if state.ended is not None:
            return ()
        if state.turn is None:
            return self.dialect.prompt(state.question.question)
        # Placed again, as a snapshot's JSON form has segments only.
        return self.dialect.placed(state.turn.observation, state.turn.action.kind)

    def snapshot(self) -> EpisodeState:
        """The current episode. Taking it costs a reference."""
        return self.state

    def restore(self, snapshot: EpisodeState) -> None:
        """Continue from ``snapshot``, taken here or in any environment with equal rules and corpus.

        Raises:
            SnapshotError: it was taken with another corpus, dialect, reward or limit, or its actions were changed.
        """
        if not isinstance(snapshot, EpisodeState):
            raise SnapshotError(f"a snapshot is an EpisodeState, got {type(snapshot).__name__}")
        if snapshot.rules != self._rules_digest:
            raise SnapshotError(
                f"the snapshot of question {snapshot.question.id!r} was taken with another corpus, dialect, reward or "
                f"limits (rules {snapshot.rules[:12]}…, here {self._rules_digest[:12]}…): restore it in an environment "
                "made with the same arguments"
            )
        self._state = snapshot if snapshot.played else self._checked(snapshot)

    def _checked(self, snapshot: EpisodeState) -> EpisodeState:
        """A state that was read from JSON, if its actions are what its texts say."""
        for turn in snapshot.turns():
            if self.dialect.parse(turn.text) != turn.action:
                raise SnapshotError(
                    f"the snapshot of question {snapshot.question.id!r} says of the turn {turn.text!r:.80} that it is "
                    f"{turn.action}, which it is not: it was changed"
                )
        return dataclasses.replace(snapshot, played=True)

    def clone(self) -> SearchQAEnv:
        """A new environment over the same dataset and search, not yet reset."""
        # A shallow copy, because growing a tree clones for every path: nothing is computed again.
        env = copy.copy(self)
        env.action_space, env.observation_space = UnicodeText(), UnicodeText()
        env._state, env._np_random, env._np_random_seed = None, None, None
        env.closes_search = False
        return env

    def close(self) -> None:
        """Close the search if this environment was made to open it, for its clones and forks too."""
        if self.closes_search:
            self.search.close()

    def render(self) -> str | None:
        """The episode so far as text, in render mode ``ansi``."""
        if self.render_mode is None:
            return None
        state = self.state
        lines = [plain(self.dialect.prompt(state.question.question))]
        lines += [f"{turn.text}{plain(turn.observation)}" for turn in state.turns()]
        if (outcome := self.rules.outcome(state)) is not None:
            lines.append(f"[{outcome.ended}] EM {outcome.em:g}, F1 {outcome.f1:.2f}, searches {outcome.searches}")
        return "\n".join(lines)

    def _info(self) -> dict[str, Any]:
        state = self.state
        info: dict[str, Any] = {"question_id": state.question.id, "turns": state.depth, "searches": state.searches}
        if state.turn is not None:
            action = state.turn.action
            info["action"] = {"kind": action.kind, "content": action.content, "why": action.why}
            info["hits"] = [{"id": h.passage.id, "title": h.passage.title, "score": h.score} for h in state.turn.hits]
        if (outcome := self.rules.outcome(state)) is not None:
            info.update(ended=outcome.ended, em=outcome.em, f1=outcome.f1, contains=outcome.contains)
            info["prediction"] = outcome.prediction
        return info
