"""Intervals for means over questions: shares, paired differences of shares, and amounts.

The unit is the question: samples of one question are averaged first, so that every value here is one question's.

A share (exact match, F1, recall: every value between 0 and 1) gets the interval of Korn & Graubard (1998, Survey
Methodology 24, 193–201): Clopper & Pearson's exact interval (1934, Biometrika 26, 404–413) at the effective number of
questions. Where every value is 0 or 1 that is Clopper & Pearson's own, so 0 right of 8 is 0 to 37 %, not 0 to 0. A
paired difference of shares gets the interval of Bonett & Price (2012, J. Educ. Behav. Stat. 37, 479–488), which counts
one more question for either side: two models that agree on 8 of 8 questions are not shown to be equal. The average over
several benchmarks, each with its weight, combines their intervals as Zou & Donner do (2008, Stat. Med. 27, 1693–1702).

An amount (tokens, seconds, searches) has no bounds and gets a seeded percentile bootstrap interval (Efron 1979; Efron &
Tibshirani 1993, §13.3): resample the questions with replacement, take the mean of every resample, and report the 2.5
and 97.5 percentiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BLOCK_VALUES = 4_000_000  # resampled values held at once: 32 MB


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided interval, in the unit of the values."""

    mean: float
    low: float
    high: float
    n: int  # questions


def share_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """The mean of shares, one for each question, with its interval.

    With ``p`` the mean of ``n`` values and ``s²`` their variance, the effective number of questions is
    ``m = n · p(1 − p) / s² · (z / t)²`` (normal and t quantiles, n − 1 degrees of freedom), at least ``n``, as it is
    where every value is 0 or 1. The bounds are quantiles of Beta(x, m − x + 1) and Beta(x + 1, m − x) with x = p·m.

    Raises:
        ValueError: there are no values, one is not between 0 and 1, or ``level`` is not inside (0, 1).
    """
    data = _checked(values, level, low=0.0, high=1.0)
    from scipy.special import betaincinv

    mean, n = float(data.mean()), data.size
    size = _effective_size(data, mean, level)
    hits, tail = mean * size, (1 - level) / 2
    low = float(betaincinv(hits, size - hits + 1, tail)) if mean > 0 else 0.0
    high = float(betaincinv(hits + 1, size - hits, 1 - tail)) if mean < 1 else 1.0
    return Interval(mean, min(low, mean), max(high, mean), n)


def _effective_size(data: FloatArray, mean: float, level: float) -> float:
    """Questions with values of 0 and 1 that would tell as much as these do."""
    from scipy.special import stdtrit

    variance = float(data.var())
    if variance == 0 or data.size < 2:
        return float(data.size)
    quantile = 1 - (1 - level) / 2
    correction = (NormalDist().inv_cdf(quantile) / float(stdtrit(data.size - 1, quantile))) ** 2
    return data.size * max(1.0, mean * (1 - mean) / variance * correction)


def paired_share_interval(before: Sequence[float], after: Sequence[float], *, level: float = 0.95) -> Interval:
    """The mean of ``after − before`` with its interval; entry ``i`` of both is a share of the same question.

    The bounds are those of a mean over ``n + 2`` differences: the ``n`` that were seen, +1 and −1.

    Raises:
        ValueError: the two have different lengths, or what :func:`share_interval` refuses.
    """
    differences = _differences(before, after)
    data = _checked(differences, level, low=-1.0, high=1.0)
    widened = np.concatenate([data, [1.0, -1.0]])
    half = NormalDist().inv_cdf(1 - (1 - level) / 2) * math.sqrt(float(widened.var()) / widened.size)
    mean, centre = float(data.mean()), float(widened.mean())
    return Interval(mean, min(mean, max(-1.0, centre - half)), max(mean, min(1.0, centre + half)), data.size)


def average_interval(parts: Sequence[Interval], weights: Sequence[float]) -> Interval:
    """The weighted average of several means, such as over benchmarks, with its interval.

    With weights ``w`` that are scaled to a sum of 1 the lower bound lies ``√Σ w²(mean − low)²`` below the average, and
    the upper one likewise above it.

    Args:
        parts: the means.
        weights: one for each of ``parts``, at least 0.

    Returns:
        The average; ``n`` counts the questions of all parts.

    Raises:
        ValueError: there is no part, or the weights do not fit them or are all 0.
    """
    if not parts or len(weights) != len(parts):
        raise ValueError(f"an average needs a weight for each of one or more means, got {len(weights)} of {len(parts)}")
    total = sum(weights)
    if min(weights) < 0 or total <= 0:
        raise ValueError(f"weights are at least 0, and not all 0: {list(weights)}")
    scaled = [(weight / total, part) for weight, part in zip(weights, parts, strict=True)]
    mean = sum(weight * part.mean for weight, part in scaled)
    below = math.sqrt(sum((weight * (part.mean - part.low)) ** 2 for weight, part in scaled))
    above = math.sqrt(sum((weight * (part.high - part.mean)) ** 2 for weight, part in scaled))
    return Interval(mean, mean - below, mean + above, sum(part.n for part in parts))


def mean_interval(
    values: Sequence[float],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    block_values: int = BLOCK_VALUES,
) -> Interval:
    """The mean of amounts with its percentile bootstrap interval.

    Args:
        values: one for each question.
        level: of the interval.
        resamples: of the questions.
        seed: of the resampling.
        block_values: resampled values that are held at once; the result does not depend on it.

    Raises:
        ValueError: there are no values, one is not finite, or ``level`` is not inside (0, 1).
    """
    data = _checked(values, level)
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, it must be at least 1")
    rng, means = np.random.default_rng(seed), np.empty(resamples)
    block = max(1, block_values // data.size)
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        means[start : start + count] = data[rng.integers(data.size, size=(count, data.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(data.mean()), float(low), float(high), data.size)


def paired_mean_interval(before: Sequence[float], after: Sequence[float]) -> Interval:
    """The mean of ``after − before`` of amounts with its bootstrap interval; entry ``i`` of both is one question's.

    Raises:
        ValueError: the two have different lengths, or what :func:`mean_interval` refuses.
    """
    return mean_interval(_differences(before, after))


def _differences(before: Sequence[float], after: Sequence[float]) -> list[float]:
    if len(before) != len(after):
        raise ValueError(f"paired values need equal lengths, got {len(before)} and {len(after)}")
    differences: list[float] = (np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)).tolist()
    return differences


def _checked(values: Sequence[float], level: float, low: float = -math.inf, high: float = math.inf) -> FloatArray:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or data.size == 0:
        raise ValueError("an interval needs at least one value, in one dimension")
    if not np.isfinite(data).all():
        raise ValueError("an interval needs finite values")
    if data.min() < low or data.max() > high:
        raise ValueError(f"a share lies between {low:g} and {high:g}, got {data.min():g} to {data.max():g}")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, it must be between 0 and 1")
    return data
