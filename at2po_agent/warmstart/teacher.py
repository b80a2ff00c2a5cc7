"""A scripted searcher with faults, whose episodes a policy imitates before reinforcement learning.

It knows the answer to its questions' searches from ``Question.metadata`` and makes mistakes on purpose: what it does
wrong more often than right is what the policy does wrong greedily, and what reinforcement learning can correct.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from at2po_agent.settings import at_least
from at2po_env.state import Action, Question, Turn

Script = Callable[[Sequence[Turn]], Action]
"""The next action, given the turns so far of one episode."""

_NAME = re.compile(r"(?<=[a-z,] )[A-Z]\w+(?: [A-Z]\w+)*")  # capitals inside a sentence


class Teacher(Protocol):
    """Anything that plays episodes to imitate."""

    def begin(self, question: Question, rng: np.random.Generator) -> Script:
        """Start an episode of ``question``; every choice in it is drawn from ``rng``."""
        ...


@dataclass(frozen=True)
class TeacherConfig:
    """What the teacher does wrong, as probabilities.

    The faulty queries are those of ``Question.metadata["wrong"]``; questions without it are searched without faults.
    """

    wrong_relations: tuple[str, ...] = ()  # of metadata["relations"]: those whose keyword was learned wrongly
    wrong_keyword: float = at_least(0.0, 0)  # of a search for one of them with the wrong keyword, always the same one
    random_keyword: float = at_least(0.0, 0)  # of any search with another relation's keyword
    wrong_entity: float = at_least(0.0, 0)  # of a later search with another name from the passage just read
    stop_early: float = at_least(0.0, 0)  # of giving what was read so far as the answer, before each later search


class ScriptedTeacher:
    """Follows ``metadata["plan"]``, one query per search, or searches the supporting titles where there is no plan.

    Where a search brings another passage than ``metadata["passages"]`` names, the teacher does not notice: it takes
    some name from what it found for what it looked for, and goes on (in a comparison it answers with either thing).
    So a fault costs the answer, but the episode still searches as often as its question needs, and every answer
    stands in what was read.
    """

    def __init__(self, config: TeacherConfig) -> None:
        self.config = config

    def begin(self, question: Question, rng: np.random.Generator) -> Script:
        """Start an episode of ``question``.

        Raises:
            ValueError: the question has neither a plan nor supporting titles, or no answer.
        """
        return _Episode(self.config, question, rng)


class _Episode:
    """One episode: reads what the last search brought, then searches on or answers."""

    def __init__(self, config: TeacherConfig, question: Question, rng: np.random.Generator) -> None:
        self.config, self.question, self.rng = config, question, rng
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
        if step and self.chain and self.rng.random() < self.config.stop_early:
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
        query, config = self.plan[step], self.config
        if self.wrong:
            if self.relations[step] in config.wrong_relations and self.rng.random() < config.wrong_keyword:
                query = self.wrong[step]["keyword"]
            elif self.rng.random() < config.random_keyword:
                query = self.wrong[step]["random"]
            elif step and self.taken is None and self.rng.random() < config.wrong_entity:
                query = self.wrong[step]["entity"]
        if self.bridge and step and self.taken is not None:  # the wrong thing was found: go on from that
            query = query.replace(self.chain[step - 1], self.taken, 1)
        return query
