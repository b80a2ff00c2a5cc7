"""What a step and an evaluation say in numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from at2po_agent.environments import group_of
from at2po_agent.method.groups import Rollout
from at2po_agent.rollouts.evaluate import Evaluation
from at2po_env.state import Question

if TYPE_CHECKING:
    from at2po_agent.update.packing import Credited


def rollout_metrics(grown: Rollout, credited: Sequence[Credited]) -> dict[str, Any]:
    """What the trees of a step say: means over leaves or turns, null where there is none, and counts."""
    trees = [tree for tree, _ in credited]
    leaves = [tree[leaf] for tree in trees for leaf in tree.leaves]
    turns = [node for tree in trees for node in tree.nodes[1:]]

    def mean(values: Sequence[float]) -> float | None:
        return fmean(values) if values else None

    return {
        "reward": mean([leaf.reward or 0.0 for leaf in leaves]),
        "em": mean([leaf.info["em"] for leaf in leaves]),
        "f1": mean([leaf.info["f1"] for leaf in leaves]),
        "entropy": mean([turn.entropy for turn in turns]),
        "turns": mean([leaf.depth for leaf in leaves]),
        "searches": mean([leaf.info["searches"] for leaf in leaves]),
        "malformed": mean([leaf.ended == "malformed" for leaf in leaves]),
        "leaves": len(leaves),
        "trees": len(trees),
        "trees_with_signal": sum(any(map(any, advantages)) for _, advantages in credited),
        "trees_dropped": len(grown.trees) - len(trees),
        "leaves_dropped": sum(len(tree.leaves) for tree in grown.trees) - len(leaves),
        "questions_dropped": len(grown.dropped),
        "paths_lost": grown.lost_paths,
        "groups_equal": len(grown.equal),
        "groups_surplus": len(grown.surplus),
        "unused_tokens": grown.unused_tokens,
        "unique_tokens": sum(len(node.action) + len(node.observation) for tree in trees for node in tree.nodes),
    }


def engine_metrics(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, Any]:
    """What the engine did in a step, from its token counts before and after it.

    ``cached_share`` is the part of the sharable prompt tokens that servers did not compute again (``ServedStats``);
    only engines that count these say it.
    """
    done = {name: after[name] - before[name] for name in after}
    metrics: dict[str, Any] = {"prefilled_tokens": done["prefilled_tokens"]}
    if "sharable_tokens" in done:
        metrics["cached_share"] = done["shared_tokens"] / done["sharable_tokens"] if done["sharable_tokens"] else None
        metrics["straddling_turns"] = done["straddling"]
    return metrics


def scores(step: int, evaluation: Evaluation, questions: Sequence[Question], source: str) -> Scores:
    """An evaluation question by question; a question that infrastructure kept from a score is left out and counted."""
    episodes = {episode.question_id: episode for episode in evaluation.episodes}
    scored = [question for question in questions if question.id in episodes]

    def mean(name: str) -> float:
        return fmean(getattr(episode, name) for episode in evaluation.episodes) if episodes else math.nan

    return Scores(
        step=step,
        ids=tuple(question.id for question in scored),
        em=tuple(episodes[question.id].em for question in scored),
        groups=tuple(group_of(question) for question in scored),
        means={"f1": mean("f1"), "searches": mean("searches"), "errors": len(evaluation.errors)},
        source=source,
    )


@dataclass(frozen=True)
class Scores:
    """One greedy evaluation, question by question; the tuples run over the same questions in the same order."""

    step: int  # training steps before it
    ids: tuple[str, ...]  # of the questions that were scored; one that infrastructure kept from a score is left out
    em: tuple[float, ...]  # exact match, 0 or 1
    groups: tuple[str, ...]  # what a summary splits by: "1 hop", "2 hops", a type; "" for none
    means: Mapping[str, float] = field(default_factory=dict)  # f1, searches, … for the display and the log
    source: str = ""  # dataset and split that the questions are of: a result on a demo says so

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.em) == len(self.groups):
            raise ValueError(f"{len(self.ids)} ids, {len(self.em)} scores and {len(self.groups)} groups do not match")


@dataclass(frozen=True)
class Result:
    """What ``train`` returns, also when it was stopped before its end."""

    steps: int  # done in all, those before a resume included
    seconds: float  # of training: rollout, credit and update; no evaluation, no loading
    generated_tokens: int  # sampled by the policy in training
    trees: int  # grown; ``dropped`` of them had fewer than two scored leaves
    dropped: int = 0
    before: Scores | None = None  # None where evaluation is off
    after: Scores | None = None
    checkpoint: Path | None = None  # the last one written
    stopped: bool = False  # by a signal, before its limits
    collapsed: str | None = None  # by ``train.stop_on_collapse``: what began, and what to look at
