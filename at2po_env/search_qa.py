"""``SearchQAEnv``: answer a question in turns of thought, search and answer, as a forkable Gymnasium environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

from gymnasium.error import ResetNeeded

import search_backend
from at2po_env.core import StepResult
from at2po_env.dataset import Dataset
from at2po_env.dialects import DIALECTS, Dialect
from at2po_env.errors import SnapshotError
from at2po_env.rules import Rules
from at2po_env.scripts import Baseline
from at2po_env.search_baselines import search_baselines
from at2po_env.search_teacher import SearchTeacher
from at2po_env.state import Action, EndReason, EpisodeState, Question, Text, plain
from at2po_env.tasks import Bounds, Metric, Order, Task, TaskEnv, TurnView
from search_backend.base import Hit, SearchBackend
from search_backend.components import described
from search_backend.outside import well_formed
from search_backend.tape import Tape

_FROM_OUTSIDE: tuple[EndReason, ...] = ("length_limit", "turn_limit", "search_limit")


class SearchQAEnv(TaskEnv[EpisodeState]):
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

    task_word = "question"
    answer_key = "prediction"
    teacher = SearchTeacher
    metrics = (Metric("em", share=True, title="EM", words="exact match"), Metric("f1", title="F1"), Metric("searches"))

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
        super().__init__(
            [question.id for question in dataset.questions], order=order, copies=copies, render_mode=render_mode
        )
        self.rules = Rules.of() if rules is None else rules
        self.stop = self.rules.dialect.stop
        self.chat, self.limits = self.rules.dialect.chat, self.rules.limits
        longest = self.rules.dialect.result_bytes(self.rules.k, self.rules.max_observation_chars)
        self.bounds = Bounds(self.rules.turn_limit, longest)
        self.closes_search = False  # whoever opened the search closes it; ``make`` hands that over
        self.dataset = dataset
        self.search = search
        self._by_id = {question.id: question for question in dataset.questions}
        self._rules_digest = self.rules.digest(search.manifest.digest)
        self._state: EpisodeState | None = None

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions, in file order."""
        return self.dataset.questions

    @property
    def dialect(self) -> Dialect:
        """The dialect of turns and results."""
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

    def question(self, task_id: str) -> Question:
        """A question by its id.

        Raises:
            KeyError: there is none.
        """
        if task_id not in self._by_id:
            raise KeyError(f"{self.dataset.name} {self.dataset.split} has no question with id {task_id!r}")
        return self._by_id[task_id]

    def begin(self, task_id: str) -> None:
        """Start an episode of the question."""
        self._state = EpisodeState.begin(self.question(task_id), self._rules_digest)

    def task(self, task_id: str) -> Task:
        """The question, its gold answers, and how many hops it takes or what type it is of."""
        question = self.question(task_id)
        return Task(question.id, question.question, group_of(question), question.answers)

    def manifest(self) -> dict[str, Any]:
        """The questions, the index and the dialect, each with its digest, and where the index was.

        ``search_at`` is the search URI, which holds no secret; None where a backend was passed in or made for the data.
        ``components`` says where dialect, reward and search come from that are not built in.
        """
        data = self.dataset
        asked = self.spec.kwargs.get("search") if self.spec else None
        searched = search_backend.origin(asked) if isinstance(asked, str) else None
        return {
            "dataset": {
                "name": data.name,
                "split": data.split,
                "questions": len(data.questions),
                "digest": data.digest,
                "notes": dict(data.notes),
            },
            "search": {**self.search.manifest.to_json(), "digest": self.search.manifest.digest},
            "search_at": asked if isinstance(asked, str) else None,
            "dialect": {"name": self.dialect.name, "digest": self.dialect.digest, **self._own_tools()},
            **described({**self.rules.origins, **({"search": searched} if searched else {})}),
        }

    def _own_tools(self) -> dict[str, Any]:
        """The tools of a dialect whose name does not tell them."""
        tools = self.dialect.tools
        known = DIALECTS.get(self.dialect.name)
        return {"tools": list(tools)} if tools != (known.tools if known else ()) else {}

    def baselines(self, fit: Self) -> tuple[Baseline, ...]:
        """Guessers that never search, and an oracle where the questions have a plan."""
        return search_baselines(self.questions, fit.questions, self.dialect)

    @property
    def reward_name(self) -> str:
        """The reward function by module and name."""
        return self.rules.reward_name

    def tape_position(self) -> int | None:
        """Bytes of the tape that searches have used so far; None where there is no tape."""
        return self.search.position() if isinstance(self.search, Tape) else None

    def read_snapshot(self, stored: Mapping[str, Any]) -> EpisodeState:
        """Read the JSON form of an ``EpisodeState``."""
        return EpisodeState.from_json(stored)

    def transcript(self, snapshot: EpisodeState) -> tuple[TurnView, ...]:
        """The turns of an episode, from the first to the last."""
        return tuple(
            TurnView(turn.text, turn.action.to_json(), turn.observation, turn.reward, hits_to_json(turn.hits))
            for turn in snapshot.turns()
        )

    def read_action(self, text: str) -> dict[str, Any]:
        """Parse a turn in the dialect."""
        return self.dialect.parse(text).to_json()

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
        return plain(self.observation()), reward, terminated, ended is not None and not terminated, self.info()

    def observation(self) -> Text:
        """The text for the model: the prompt or the last turn's observation; empty where the episode has ended."""
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
                    f"the snapshot of question {snapshot.question.id!r} was modified: it records the turn "
                    f"{turn.text!r:.80} as {turn.action}, which it is not"
                )
        return dataclasses.replace(snapshot, played=True)

    def clone(self) -> Self:
        """A new environment over the same dataset and search, not yet reset."""
        env = super().clone()
        env._state, env.closes_search = None, False
        return env

    def close(self) -> None:
        """Close the search if this environment was made to open it, for its clones and forks too."""
        if self.closes_search:
            self.search.close()

    def info(self) -> dict[str, Any]:
        """The question's id, the turns and searches so far, the last action and its hits, and how the episode ended."""
        state = self.state
        info: dict[str, Any] = {"task_id": state.question.id, "question_id": state.question.id}
        info |= {"turns": state.depth, "searches": state.searches}
        if state.turn is not None:
            info["action"] = state.turn.action.to_json()
            info["hits"] = list(hits_to_json(state.turn.hits))
        if (outcome := self.rules.outcome(state)) is not None:
            info.update(ended=outcome.ended, em=outcome.em, f1=outcome.f1, contains=outcome.contains)
            info["prediction"] = outcome.prediction
        return info


def hits_to_json(hits: Sequence[Hit]) -> tuple[dict[str, Any], ...]:
    """Hits as ``info``, transcripts and records hold them: id, title, score."""
    return tuple({"id": hit.passage.id, "title": hit.passage.title, "score": hit.score} for hit in hits)


def group_of(question: Question) -> str:
    """The group of a question in tables: comparison, else the number of hops, else the type."""
    kind, hops = str(question.metadata.get("type", "")), question.metadata.get("hops")
    if kind == "comparison" or hops is None:
        return kind
    return f"{hops} hop" if hops == 1 else f"{hops} hops"
