"""Evaluation in training: one chain per question, through the same ``rollout``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from at2po_agent.method.expansion import Chains
from at2po_agent.method.tree import TurnNode, TurnTree
from at2po_agent.rollouts.batch import rollout
from at2po_agent.rollouts.grow import Actor
from at2po_env.core import ForkableEnv


class EvaluationStopped(Exception):
    """An evaluation was given up between two batches, as its ``stop`` asked for."""


@dataclass(frozen=True)
class Episode:
    """The outcome of one question."""

    question_id: str
    metrics: Mapping[str, float]  # what the environment measured: em, f1, searches
    ended: str
    turns: int
    tokens: int  # generated


@dataclass(frozen=True)
class Evaluation:
    """Scored episodes in the order of the questions, and the questions that infrastructure kept from a score."""

    episodes: tuple[Episode, ...]
    errors: tuple[str, ...]  # question ids without a score; never counted as 0

    @classmethod
    def of(cls, parts: Sequence[Evaluation]) -> Evaluation:
        """An evaluation from its parts, in their order."""
        return cls(
            tuple(episode for part in parts for episode in part.episodes),
            tuple(error for part in parts for error in part.errors),
        )

    def mean(self, metric: str) -> float:
        """The mean of a metric over the scored episodes; nan where there is none."""
        return fmean(episode.metrics[metric] for episode in self.episodes) if self.episodes else math.nan


async def evaluate(
    env: ForkableEnv[Any],
    question_ids: Sequence[str],
    actor: Actor,
    *,
    batch: int = 256,
    on_episode: Callable[[Episode], None] = lambda episode: None,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Run one episode per question and score it.

    Args:
        env: an environment whose ``info`` carries its metrics when an episode ends.
        question_ids: each is run once.
        actor: acts in the episodes, sampled as it says: ``actor.greedy()`` for greedy ones.
        batch: episodes that run together.
        on_episode: called with every scored episode, for progress.
        stop: asked before every batch whether to give up.

    Raises:
        EvaluationStopped: ``stop`` said so; a part of an evaluation is no evaluation.
    """
    episodes: list[Episode] = []
    errors: list[str] = []
    for start in range(0, len(question_ids), batch):
        if stop():
            raise EvaluationStopped
        part = question_ids[start : start + batch]
        grown = await rollout(env, part, actor, Chains(1), key=(0, start))
        scored = {tree.question_id: _episode(tree) for tree in grown.trees if tree.leaves}
        for question_id in part:
            if question_id in scored:
                episodes.append(scored[question_id])
                on_episode(scored[question_id])
            else:
                errors.append(question_id)
    return Evaluation(tuple(episodes), tuple(errors))


def _episode(tree: TurnTree) -> Episode:
    leaf, path = next(tree.trajectories())
    node: TurnNode = tree[leaf]
    return Episode(
        question_id=tree.question_id,
        metrics=numbers(node.info),
        ended=node.ended or "",
        turns=len(path),
        tokens=sum(len(tree[i].action) for i in path),
    )


def numbers(info: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an ``info`` at an episode's end, by name."""
    return {name: float(value) for name, value in info.items() if isinstance(value, int | float)}
