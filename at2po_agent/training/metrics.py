"""Metrics of a training step and of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from at2po_agent.intervals import Interval, mean_interval, paired_mean_interval, paired_share_interval, share_interval
from at2po_agent.method.groups import Rollout
from at2po_agent.rollouts.evaluate import Evaluation
from at2po_agent.terminal import amount
from at2po_env.tasks import Metric, TaskEnv

if TYPE_CHECKING:
    from at2po_agent.update.packing import Credited


def rollout_metrics(grown: Rollout, credited: Sequence[Credited], measured: Sequence[Metric] = ()) -> dict[str, Any]:
    """Metrics of the trees of a step: means over leaves or turns, null where there is none, and counts.

    Args:
        grown: by the step.
        credited: the trees that it is updated on, each with its advantages.
        measured: the environment's metrics.
    """
    trees = [tree for tree, _ in credited]
    leaves = [tree[leaf] for tree in trees for leaf in tree.leaves]
    turns = [node for tree in trees for node in tree.nodes[1:]]

    def mean(values: Sequence[float]) -> float | None:
        return fmean(values) if values else None

    return {
        "reward": mean([leaf.reward or 0.0 for leaf in leaves]),
        **{metric.name: mean([float(leaf.info[metric.name]) for leaf in leaves]) for metric in measured},
        "entropy": mean([turn.entropy for turn in turns]),
        "turns": mean([leaf.depth for leaf in leaves]),
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
    """The engine's work in a step, from its token counts before and after it.

    ``cached_share`` is the part of the sharable prompt tokens that servers did not compute again (``ServedStats``);
    only engines that count these say it.
    """
    done = {name: after[name] - before[name] for name in after}
    metrics: dict[str, Any] = {"prefilled_tokens": done["prefilled_tokens"]}
    if "sharable_tokens" in done:
        metrics["cached_share"] = done["shared_tokens"] / done["sharable_tokens"] if done["sharable_tokens"] else None
        metrics["straddling_turns"] = done["straddling"]
    return metrics


def scores(step: int, evaluation: Evaluation, env: TaskEnv[Any], tasks: Sequence[str]) -> Scores:
    """An evaluation task by task; a task that infrastructure kept from a score is left out and counted."""
    episodes = {episode.question_id: episode for episode in evaluation.episodes}
    scored = [task for task in tasks if task in episodes]
    first, *others = (metric.name for metric in env.metrics)
    data = env.manifest()["dataset"]
    return Scores(
        step=step,
        ids=tuple(scored),
        values=tuple(episodes[task].metrics[first] for task in scored),
        groups=tuple(env.task(task).group for task in scored),
        means={**{name: evaluation.mean(name) for name in others}, "errors": len(evaluation.errors)},
        source=f"{data['name']} {data['split']}",
        metric=first,
        title=str(env.metrics[0]),
        share=env.metrics[0].share,
        task_word=env.task_word,
    )


@dataclass(frozen=True)
class Scores:
    """One greedy evaluation, task by task; the tuples run over the same tasks in the same order."""

    step: int  # training steps before it
    ids: tuple[str, ...]  # of the tasks that were scored; one that infrastructure kept from a score is left out
    values: tuple[float, ...]  # of the metric
    groups: tuple[str, ...]  # what a summary splits by: "1 hop", "2 hops", a type; "" for none
    means: Mapping[str, float] = field(default_factory=dict)  # f1, searches, … for the display and the log
    source: str = ""  # dataset and split that the tasks are of: a result on a demo says so
    metric: str = "em"  # that the values are of: the environment's first
    title: str = "EM"  # of the metric, for people
    share: bool = True  # every value is between 0 and 1, and their mean a share
    task_word: str = "question"  # what the environment calls a task

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Scores:
        """Read scores as checkpoints hold them; earlier versions named the values ``em``."""
        named = {"values" if name == "em" else name: value for name, value in stored.items()}
        given: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in named.items()}
        return cls(**given)

    @property
    def mean(self) -> float:
        """Of the values; nan where there is none."""
        return fmean(self.values) if self.values else math.nan

    def interval(self) -> Interval:
        """The mean with its 95 % interval over the tasks."""
        return share_interval(self.values) if self.share else mean_interval(self.values)

    def gain(self, before: Sequence[float], after: Sequence[float]) -> Interval:
        """The mean of ``after − before`` with its 95 % interval; entry ``i`` of both is of the same task."""
        return paired_share_interval(before, after) if self.share else paired_mean_interval(before, after)

    def shown(self, value: float) -> str:
        """A mean of the values, for people."""
        return f"{value:.1%}" if self.share else amount(value)

    @property
    def heading(self) -> str:
        """The metric in words, as tables and pages head it."""
        return "Exact match" if self.metric == "em" else self.title.capitalize()

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.values) == len(self.groups):
            raise ValueError(
                f"{len(self.ids)} ids, {len(self.values)} scores and {len(self.groups)} groups do not match"
            )


@dataclass(frozen=True)
class Result:
    """The result of ``train``, also when it was stopped before its end."""

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
    accepted: tuple[str, ...] = ()  # changes of data, index or configuration that the run went on with, in words
