"""The cost of reaching an exact match, read from the evaluations of a run: curves, their file and their table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf, isinf
from pathlib import Path
from statistics import median

TARGETS = (0.5, 0.7)


@dataclass(frozen=True)
class Settings:
    """What is equal for all trainers."""

    seed: int
    threads: int
    every: int  # steps between evaluations
    questions: int  # of an evaluation
    max_tokens: int
    max_cpu_seconds: float


@dataclass(frozen=True)
class Spent:
    """What training has cost, without evaluations."""

    tokens: float = 0.0  # generated
    cpu_seconds: float = 0.0  # of all threads
    seconds: float = 0.0

    def towards(self, other: Spent, share: float) -> Spent:
        """A point on the straight line to ``other``."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("tokens", "cpu_seconds", "seconds"))
        return Spent(*(start + share * (end - start) for start, end in pairs))


Curve = list[tuple[Spent, float]]  # exact match after each evaluation


def spent_to(curve: Curve, target: float) -> Spent | None:
    """The cost until an evaluation first reached ``target``, interpolated from the one before; None: it never did."""
    for n, (spent, score) in enumerate(curve):
        if score >= target:
            if n == 0:
                return spent
            before, lower = curve[n - 1]
            return before.towards(spent, (target - lower) / (score - lower))
    return None


def read_runs(path: Path, settings: Sequence[Settings]) -> dict[tuple[str, Settings], Curve]:
    """Runs that were finished with these settings before; they are not made again."""
    runs = {}
    for trainer, values, curve in json.loads(path.read_text()) if path.exists() else ():
        if (one := Settings(**values)) in settings:
            runs[trainer, one] = [(Spent(**spent), score) for spent, score in curve]
    return runs


def write_runs(path: Path, runs: Mapping[tuple[str, Settings], Curve]) -> None:
    """Keep the runs that are finished."""
    path.write_text(json.dumps([[name, asdict(one), curve] for (name, one), curve in runs.items()], default=asdict))


def table(curves: Mapping[tuple[str, int], Curve]) -> list[str]:
    """A row for each trainer and seed, and the medians of each trainer; a run that did not reach a target is last."""
    heads = "".join(f" | to {target:.0%}: {'cpu s':>5} {'wall s':>7} {'tokens':>11}" for target in TARGETS)
    lines = [f"{'trainer':10} {'seed':>6}{heads} | {'last EM':>7} {'tokens':>8} {'cpu s':>6}"]
    for (trainer, seed), curve in curves.items():
        last, score = curve[-1]
        costs = "".join(_cell(spent_to(curve, target)) for target in TARGETS)
        lines.append(f"{trainer:10} {seed:>6}{costs} | {score:7.1%} {last.tokens:8,.0f} {last.cpu_seconds:6.0f}")
    for trainer in dict.fromkeys(trainer for trainer, _ in curves):
        runs = [curve for (name, _), curve in curves.items() if name == trainer]
        costs = "".join(_cell(_median([spent_to(curve, target) for curve in runs])) for target in TARGETS)
        lines.append(f"{trainer:10} {'median':>6}{costs} |")
    return lines


def _median(costs: Sequence[Spent | None]) -> Spent | None:
    """Of each quantity; None where half of the runs or more did not reach the target."""
    reached = [cost or Spent(inf, inf, inf) for cost in costs]
    middle = Spent(*(median(getattr(cost, name) for cost in reached) for name in ("tokens", "cpu_seconds", "seconds")))
    return None if isinf(middle.tokens) else middle


def _cell(spent: Spent | None) -> str:
    if spent is None:
        return f" | {'not reached':>33}"
    return f" | {spent.cpu_seconds:13.0f} {spent.seconds:7.0f} {spent.tokens:11,.0f}"
