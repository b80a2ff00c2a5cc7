"""Training runs by variant: scores, paired differences and curves over the questions and seeds that they share.

Every number is over the questions that all evaluations of all runs scored; a difference is taken over the seeds that
both variants have. Runs whose evaluations measure different things are refused with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from at2po_agent.settings import ConfigError
from at2po_agent.study.curves import Curve, area, curve, table_at
from at2po_agent.study.runs import COSTS, TrainedRun, decisive
from at2po_agent.study.statistics import Compared, FloatArray, family
from at2po_agent.training.metrics import Scores


@dataclass(frozen=True)
class Variant:
    """The runs of one configuration."""

    name: str
    runs: Mapping[int, TrainedRun]  # by seed


@dataclass(frozen=True)
class TrainingComparison:
    """Variants side by side; the first is what the others are compared with."""

    variants: tuple[Variant, ...]
    questions: tuple[str, ...]  # that every evaluation scored
    measured: Scores  # one of the evaluations: what was measured, on what
    unlike: tuple[str, ...] = ()  # why it should not have been compared, where it was asked for anyway
    failed: Mapping[str, str] = field(default_factory=dict)  # runs that are not finished, and why

    @classmethod
    def of(
        cls, variants: Sequence[Variant], *, failed: Mapping[str, str] | None = None, anyway: bool = False
    ) -> TrainingComparison:
        """Put variants side by side.

        Raises:
            ConfigError: a run has no evaluation, evaluations measured different things, or have no common question.
        """
        runs = [run for variant in variants for run in variant.runs.values()]
        for run in runs:
            if not run.evaluations:
                raise ConfigError(f"{run.path} has no evaluation to compare (eval.questions=0 makes none)")
        unlike = tuple(_unlike(runs))
        if unlike and not anyway:
            raise ConfigError(
                "these runs do not measure the same: " + "; ".join(unlike) + ". --anyway compares them and notes it"
            )
        common = set.intersection(*(set(scores.ids) for run in runs for scores in run.evaluations))
        first = runs[0].evaluations[-1]
        questions = tuple(id for id in first.ids if id in common)
        if not questions:
            raise ConfigError(f"the evaluations of {', '.join(run.path.name for run in runs)} share no question")
        return cls(tuple(variants), questions, first, unlike, failed or {})

    @property
    def runs(self) -> list[TrainedRun]:
        """All of them."""
        return [run for variant in self.variants for run in variant.runs.values()]

    def axes(self) -> list[str]:
        """Costs that every run has recorded, by the names of ``COSTS``."""
        return [name for name in COSTS if not any(name in run.unknown for run in self.runs)]

    def scores(self, variant: Variant) -> FloatArray:
        """[seeds, questions] after training."""
        return np.stack([table_at(run.evaluations[-1], self.questions) for run in variant.runs.values()])

    def areas(self, variant: Variant, axis: str) -> FloatArray:
        """[seeds, questions] means of the curves against a cost, up to where the cheapest run ends."""
        end = self.end(axis)
        return np.stack([area(run, axis, self.questions, end) for run in variant.runs.values()])

    def end(self, axis: str) -> float:
        """The cost that every run reached."""
        return min(run.cost(run.evaluations[-1], axis) for run in self.runs)

    def curves(self, axis: str) -> list[Curve]:
        """One for each variant, with its interval over seeds and questions."""
        end = self.end(axis)
        return [
            curve(variant.name, list(variant.runs.values()), axis, self.questions, end) for variant in self.variants
        ]

    def differences(self, tables: Sequence[FloatArray]) -> list[Compared | None]:
        """Of the variants after the first from it, given a [seeds, questions] table of each; None: no common seed."""
        reference, *others = self.variants
        paired: list[FloatArray | None] = []
        for variant, table in zip(others, tables[1:], strict=True):
            rows = _paired(list(reference.runs), list(variant.runs))
            paired.append(table[[b for _, b in rows]] - tables[0][[a for a, _ in rows]] if rows else None)
        known = iter(family([one for one in paired if one is not None]))
        return [None if one is None else next(known) for one in paired]


def by_configuration(runs: Sequence[TrainedRun]) -> list[Variant]:
    """Group runs that differ in their seed only.

    A variant is called by its algorithm, and also by its first run's folder where several have the same algorithm.

    Raises:
        ConfigError: two runs are equal in their seed too.
    """
    groups: dict[str, dict[int, TrainedRun]] = {}
    for run in runs:
        deciding = repr(sorted(decisive(run.config), key=lambda pair: pair[0]))
        group = groups.setdefault(deciding, {})
        if run.seed in group:
            raise ConfigError(f"{run.path} and {group[run.seed].path} are the same run twice: seed {run.seed}")
        group[run.seed] = run
    members = list(groups.values())
    names = [next(iter(group.values())).algorithm for group in members]
    return [
        Variant(name if names.count(name) == 1 else f"{name} ({next(iter(group.values())).path.name})", group)
        for name, group in zip(names, members, strict=True)
    ]


def _paired(first: Sequence[int], second: Sequence[int]) -> list[tuple[int, int]]:
    """Rows of the same seed in both."""
    return [(first.index(seed), second.index(seed)) for seed in second if seed in first]


def _unlike(runs: Sequence[TrainedRun]) -> Iterator[str]:
    """Settings besides the policy in which evaluations differ from those of the first run."""
    first = _measurement(runs[0])
    for run in runs[1:]:
        other = _measurement(run)
        different = [name for name in first if first[name] != other[name]]
        if different:
            yield f"{run.path.name} differs from {runs[0].path.name} in {', '.join(different)}"


def _measurement(run: TrainedRun) -> dict[str, Any]:
    scores, env = run.evaluations[-1], run.session.get("eval_env")
    env = env if isinstance(env, Mapping) else {}
    parts = {name: env.get(name) for name in ("dataset", "search", "dialect", "limits", "k")}
    return {"metric": scores.metric, "questions' source": scores.source, **parts}
