"""Seeded bootstrap intervals for a mean and for the mean of paired differences.

Percentile bootstrap (Efron 1979; Efron & Tibshirani 1993, §13.3): resample the questions with replacement, take the
mean of every resample, and report the 2.5 and 97.5 percentiles. The unit that is resampled is the question, so a
paired interval resamples differences of one question, never the two systems apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
_BLOCK_VALUES = 4_000_000  # resampled values held at once: 32 MB


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided bootstrap interval, in the unit of the values."""

    mean: float
    low: float
    high: float
    n: int  # questions


def mean_interval(values: Sequence[float], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """The mean of ``values`` with its percentile bootstrap interval.

    Raises:
        ValueError: there are no values, one is not finite, or ``level`` is not inside (0, 1).
    """
    return grouped_interval([values], level=level, resamples=resamples, seed=seed)


def grouped_interval(
    groups: Sequence[Sequence[float]], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The mean of the groups' means, such as the average over benchmarks, with its percentile bootstrap interval.

    Questions are resampled inside their group, so every group keeps its size and its weight (stratified bootstrap,
    Efron & Tibshirani 1993, §8.3). ``n`` counts the values of all groups.

    Raises:
        ValueError: there is no group, or what :func:`mean_interval` refuses.
    """
    data = [np.asarray(values, dtype=np.float64) for values in groups]
    if not data or any(values.ndim != 1 or values.size == 0 for values in data):
        raise ValueError("an interval needs at least one value, in one dimension")
    if not all(np.isfinite(values).all() for values in data):
        raise ValueError("an interval needs finite values")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, it must be between 0 and 1")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, it must be at least 1")
    rng = np.random.default_rng(seed)
    means = np.mean([_resampled_means(values, resamples, rng) for values in data], axis=0)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    mean = float(np.mean([values.mean() for values in data]))
    return Interval(mean, float(low), float(high), sum(values.size for values in data))


def _resampled_means(data: FloatArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    means = np.empty(resamples)
    block = max(1, _BLOCK_VALUES // data.size)
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        means[start : start + count] = data[rng.integers(data.size, size=(count, data.size))].mean(axis=1)
    return means


def paired_interval(
    before: Sequence[float], after: Sequence[float], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The mean of ``after − before`` with its interval; entry ``i`` of both is about the same question.

    Raises:
        ValueError: the two have different lengths, or what :func:`mean_interval` refuses.
    """
    if len(before) != len(after):
        raise ValueError(f"paired values need equal lengths, got {len(before)} and {len(after)}")
    differences = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    return mean_interval(differences.tolist(), level=level, resamples=resamples, seed=seed)
