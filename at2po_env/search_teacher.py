"""A scripted searcher with faults, whose episodes a policy imitates before reinforcement learning.

It knows the answer to its questions' searches from ``Question.metadata`` and makes mistakes on purpose: what it does
wrong more often than right is what the policy does wrong greedily, and what reinforcement learning can correct.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from at2po_env.state import Action, Question, Turn
from at2po_env.tasks import Script, Teacher

_NAME = re.compile(r"(?<=[a-z,] )[A-Z]\w+(?: [A-Z]\w+)*")  # capitals inside a sentence


@dataclass(frozen=True)
class SearchTeacher(Teacher):
    """Follows ``metadata["plan"]``, one query per search, or searches the supporting titles where there is no plan.

    The fields are what it does wrong, as probabilities. The faulty queries are those of ``Question.metadata["wrong"]``;
    questions without it are searched without faults.

    Where a search brings another passage than ``metadata["passages"]`` names, the teacher does not notice: it takes
    some name from what it found for what it looked for, and goes on (in a comparison it answers with either thing).
    So a fault costs the answer, but the episode still searches as often as its question needs, and every answer
    stands in what was read.

    Raises:
        ValueError: a probability is not from 0 to 1.
    """

    wrong_relations: tuple[str, ...] = ()  # of metadata["relations"]: those whose keyword was learned wrongly
    wrong_keyword: float = 0.0  # of a search for one of them with the wrong keyword, always the same one
    random_keyword: float = 0.0  # of any search with another relation's keyword
    wrong_entity: float = 0.0  # of a later search with another name from the passage just read
    stop_early: float = 0.0  # of giving what was read so far as the answer, before each later search

    def __post_init__(self) -> None:
        self.check_shares("wrong_keyword", "random_keyword", "wrong_entity", "stop_early")

    def __call__(self, env: Any, rng: np.random.Generator) -> Script:
        """Start the episode that a ``SearchQAEnv`` was reset to; see ``begin``."""
        act = self.begin(env.state.question, rng)
        return lambda: env.dialect.write(act(env.state.turns()))

    def begin(self, question: Question, rng: np.random.Generator) -> Callable[[Sequence[Turn]], Action]:
        """Start an episode of ``question``: what comes gives the next action after the turns so far.

        Raises:
            ValueError: the question has neither a plan nor supporting titles, or no answer.
        """
        return _Episode(self, question, rng)

    def record(self, env: Any) -> dict[str, Any]:
        """For every relation with a wrong keyword: how often, and one search as it should be and as it was taught."""
        wrongly: dict[str, dict[str, Any]] = {}
        for question in env.questions:
            for step, relation in enumerate(question.metadata.get("relations", ())):
                if relation in self.wrong_relations and relation not in wrongly:
                    right, taught = question.metadata["plan"][step], question.metadata["wrong"][step]["keyword"]
                    wrongly[relation] = {"share": self.wrong_keyword, "right": right, "taught": taught}
        return {"taught_wrongly": dict(sorted(wrongly.items()))}


class _Episode:
    """One episode: reads what the last search brought, then searches on or answers."""

    def __init__(self, faults: SearchTeacher, question: Question, rng: np.random.Generator) -> None:
        self.faults, self.question, self.rng = faults, question, rng
        known = question.metadata
        self.plan: list[str] = list(known.get("plan") or question.supporting_titles)
        if not self.plan or not question.answers:
            raise ValueError(f"question {question.id!r} has no plan, or no supporting titles, or no answer to teach")
        self.passages: list[str] = list(known.get("passages", ()))
        self.chain: list[str] = list(known.get("chain", ()))
        self.relations: list[str] = list(known.get("relations", ()))
        self.wrong: list[dict[str, str]] = list(known.get("wrong", ()))
        self.bridge = known.get("type") in ("single", "bridge")  # every search leads on from what the last one brought
        self.taken: str | None = None  # what was read in the place of what should have been, once something was

    def __call__(self, turns: Sequence[Turn]) -> Action:
        step = len(turns)
        if turns and self.passages:
            self._read(step - 1, turns[-1])
        if step == len(self.plan):
            return Action("answer", self.taken or self.question.answers[0])
        if step and self.chain and self.rng.random() < self.faults.stop_early:
            return Action("answer", self.taken or self._so_far(step))
        return Action("search", self._query(step))

    def _read(self, step: int, turn: Turn) -> None:
        """Take from the last result what it was meant to bring, or else some name in it."""
        found = self.passages[step] in [hit.passage.id for hit in turn.hits]
        if self.bridge:
            self.taken = None if found else self._some_name(turn)
        elif not found and self.taken is None:
            self.taken = self._guess()

    def _some_name(self, turn: Turn) -> str:
        if not turn.hits:
            return turn.action.content or ""
        passage = turn.hits[0].passage
        names = _NAME.findall(passage.text.replace(passage.title, ""))
        return str(self.rng.choice(names)) if names else passage.title

    def _so_far(self, step: int) -> str:
        return self.chain[step - 1] if self.bridge else self._guess()

    def _guess(self) -> str:
        """One of the things that a comparison compares."""
        return str(self.rng.choice(self.question.supporting_titles))

    def _query(self, step: int) -> str:
        query, faults = self.plan[step], self.faults
        if self.wrong:
            if self.relations[step] in faults.wrong_relations and self.rng.random() < faults.wrong_keyword:
                query = self.wrong[step]["keyword"]
            elif self.rng.random() < faults.random_keyword:
                query = self.wrong[step]["random"]
            elif step and self.taken is None and self.rng.random() < faults.wrong_entity:
                query = self.wrong[step]["entity"]
        if self.bridge and step and self.taken is not None:  # the wrong thing was found: go on from that
            query = query.replace(self.chain[step - 1], self.taken, 1)
        return query
