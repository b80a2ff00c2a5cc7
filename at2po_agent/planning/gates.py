"""Gates: is a task fit for learning? Compare baselines without a model, an oracle and a policy.

An environment brings its baselines (``TaskEnv.baselines``), such as the strongest guesser that never searches, which
must stay low, and an oracle, which must come out high. A starting policy must lie between. All are measured by the
environment's first metric, and played through it like any episode.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from rich.table import Table

from at2po_agent.environments import make_env
from at2po_agent.settings import ConfigError
from at2po_agent.terminal import amount
from at2po_env.scripts import Baseline, Player, play
from at2po_env.tasks import Metric, TaskEnv

POLICY = (0.10, 0.40)  # of a metric that is a share; any value of another one is as good

PolicyScores = Callable[[Sequence[str]], Mapping[str, float]]
"""Runs a policy on tasks, given by id, and returns the first metric of those that it scored."""


@dataclass(frozen=True)
class Gate:
    """The mean of the metric for one way to play: overall, by group of tasks, and the range it should lie in."""

    name: str
    mean: float
    groups: Mapping[str, float]
    low: float
    high: float
    how: str  # what was played

    @property
    def passed(self) -> bool:
        """Whether the mean lies in the range."""
        return self.low <= self.mean <= self.high


@dataclass(frozen=True)
class GateReport:
    """The gates of one environment, and how many tasks of each group they were measured on."""

    env_id: str
    split: str
    metric: Metric  # the environment's first
    task_word: str
    counts: Mapping[str, int]
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate that was measured is passed."""
        return all(gate.passed for gate in self.gates)

    def to_table(self) -> Table:
        """One row per gate, one column per group; a share in percent."""
        total = sum(self.counts.values())
        measured = f"{self.metric.heading}{' in %' if self.metric.share else ''}"
        table = Table(title=f"{self.env_id}, {self.split}: {measured} on {total} {self.task_word}s")
        table.add_column("gate")
        table.add_column("all", justify="right")
        groups = [] if list(self.counts) == [""] else list(self.counts)
        for group in groups:
            table.add_column(f"{group}\n({self.counts[group]})", justify="right", no_wrap=True)
        table.add_column("wanted", justify="right")
        table.add_column("passed")
        for gate in self.gates:
            means = [self._shown(gate.groups[group]) if group in gate.groups else "–" for group in groups]
            table.add_row(gate.name, self._shown(gate.mean), *means, self._wanted(gate), "yes" if gate.passed else "NO")
        table.caption = "\n".join(f"{gate.name}: {gate.how}" for gate in self.gates)
        table.caption_justify = "left"
        return table

    def _shown(self, mean: float) -> str:
        return f"{100 * mean:.1f}" if self.metric.share else amount(mean)

    def _wanted(self, gate: Gate) -> str:
        if math.isinf(gate.low) and math.isinf(gate.high):
            return "any"
        if self.metric.share:
            return f"{100 * gate.low:.0f}–{100 * gate.high:.0f}"
        return f"{amount(gate.low)} to {amount(gate.high)}"


def gates(
    env_id: str,
    *,
    split: str = "test",
    fit_split: str = "train",
    questions: int = 500,
    policy: PolicyScores | None = None,
    **kwargs: Any,
) -> GateReport:
    """Measure the gates of a registered environment.

    Args:
        env_id: a Gymnasium id whose environment is a ``TaskEnv`` and takes ``split``.
        split: the tasks that are scored.
        fit_split: the tasks from which a guesser may learn.
        questions: how many tasks of ``split`` are used, from its start.
        policy: plays a policy; without it there is no gate of one.
        kwargs: passed to ``gymnasium.make``.

    Raises:
        ConfigError: there is no such environment, it is no ``TaskEnv``, no task is asked for, or there is nothing to
            measure: the environment has no baselines, and no policy is given.
    """
    if questions < 1:
        raise ConfigError(f"gates need at least one question, got questions={questions}")
    with closing(make_env(env_id, split, kwargs)) as env, closing(make_env(env_id, fit_split, kwargs)) as fit:
        asked = _Asked(env, env.tasks[:questions])
        measured = [asked.baseline(baseline) for baseline in env.baselines(fit)]
        if policy is not None:
            measured.append(asked.policy(policy))
        if not measured:
            raise ConfigError(
                f"{env_id} has nothing to measure: its environment has no baselines (TaskEnv.baselines); give a policy "
                "with --policy"
            )
        counts = dict(sorted(Counter(asked.groups.values()).items()))
        return GateReport(env_id, split, env.metrics[0], env.task_word, counts, tuple(measured))


class _Asked:
    """The tasks that gates are measured on."""

    def __init__(self, env: TaskEnv[Any], ids: Sequence[str]) -> None:
        self.env, self.ids = env, ids
        self.groups = {id_: env.task(id_).group for id_ in ids}

    def baseline(self, baseline: Baseline) -> Gate:
        """The best of all its players in hindsight, so that a low gate is never passed by a weak one."""
        played = {name: self._play(player) for name, player in baseline.players.items()}
        best = max(played, key=lambda name: sum(played[name].values()))
        of = f"best of {len(played)} ways to play: " if len(played) > 1 else ""
        return self._gate(baseline.name, played[best], (baseline.low, baseline.high), baseline.how or f"{of}{best}")

    def policy(self, policy: PolicyScores) -> Gate:
        """The gate of a policy's score; tasks that it did not score do not count."""
        scored = policy(self.ids)
        wanted = POLICY if self.env.metrics[0].share else (-math.inf, math.inf)
        return self._gate("policy", scored, wanted, f"{len(scored)} {self.env.task_word}s scored")

    def _play(self, player: Player) -> dict[str, float]:
        # Each task has draws of its own, whichever tasks are played before it.
        first = self.env.metrics[0].name
        return {
            id_: float(play(self.env, id_, player, np.random.default_rng(number))[first])
            for number, id_ in enumerate(self.ids)
        }

    def _gate(self, name: str, values: Mapping[str, float], wanted: tuple[float, float], how: str) -> Gate:
        by_group: dict[str, list[float]] = defaultdict(list)
        for id_ in self.ids:
            if id_ in values:
                by_group[self.groups[id_]].append(values[id_])
        mean = fmean(values.values()) if values else 0.0
        return Gate(name, mean, {group: fmean(alike) for group, alike in by_group.items()}, *wanted, how)
