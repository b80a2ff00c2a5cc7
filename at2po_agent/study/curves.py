"""Scores against what training has cost: curves with intervals over seeds and questions, and the areas under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from at2po_agent.study.runs import TrainedRun
from at2po_agent.study.statistics import FloatArray, estimate
from at2po_agent.training.metrics import Scores

_POINTS = 25  # of a curve, evenly spaced


@dataclass(frozen=True)
class Point:
    """A mean at a cost with its 95 % interval."""

    x: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """The curve of a variant."""

    name: str
    points: tuple[Point, ...]


def table_at(scores: Scores, questions: Sequence[str]) -> FloatArray:
    """[questions] values of an evaluation that scored them all."""
    by_id = dict(zip(scores.ids, scores.values, strict=True))
    return np.array([by_id[id] for id in questions], dtype=np.float64)


def curve(name: str, runs: Sequence[TrainedRun], axis: str, questions: Sequence[str], end: float) -> Curve:
    """Scores of runs that differ in their seed, against a cost up to ``end``; straight between evaluations."""
    share = all(run.evaluations[-1].share for run in runs)
    start = max(run.cost(run.evaluations[0], axis) for run in runs)
    grid = np.linspace(start, max(start, end), _POINTS)
    tables = np.stack([_between(*_evaluated(run, axis, questions), grid) for run in runs])  # [seeds, points, questions]
    points = []
    for at, x in enumerate(grid):
        one = estimate(tables[:, at])
        one = one.within(0.0, 1.0) if share else one
        points.append(Point(float(x), one.mean, one.low, one.high))
    return Curve(name, tuple(points))


def area(run: TrainedRun, axis: str, questions: Sequence[str], end: float) -> FloatArray:
    """[questions] means of the curve of each question up to ``end``: the area under it by the length of the axis."""
    costs, values = _evaluated(run, axis, questions)
    if end <= costs[0]:
        first: FloatArray = values[0]
        return first
    grid = np.append(costs[costs < end], end)
    heights = _between(costs, values, grid)
    widths = np.diff(grid)
    mean: FloatArray = widths @ ((heights[1:] + heights[:-1]) / 2) / (end - costs[0])
    return mean


def _evaluated(run: TrainedRun, axis: str, questions: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """[evaluations] costs and [evaluations, questions] values."""
    costs = np.array([run.cost(scores, axis) for scores in run.evaluations])
    return costs, np.stack([table_at(scores, questions) for scores in run.evaluations])


def _between(costs: FloatArray, values: FloatArray, grid: FloatArray) -> FloatArray:
    """[grid, questions] values at costs between evaluations, and those of the nearest one outside them."""
    if len(costs) == 1:
        return np.repeat(values, len(grid), axis=0)
    after = np.clip(np.searchsorted(costs, grid), 1, len(costs) - 1)
    before = after - 1
    width = np.maximum(costs[after] - costs[before], 1e-12)
    share = np.clip((grid - costs[before]) / width, 0.0, 1.0)[:, None]
    between: FloatArray = (1 - share) * values[before] + share * values[after]
    return between
