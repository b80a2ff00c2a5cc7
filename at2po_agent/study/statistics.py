"""Means and differences over seeds **and** questions, from a table of values with a row a seed and a column a question.

Every seed is one training run, evaluated on the same questions. So a value is ``x[s, q] = μ + a_s + b_q + e_sq``: seeds
and questions are both samples of larger populations, crossed with each other, as readers and cases are in studies of
diagnosis (Dorfman, Berbaum & Metz 1992, Invest. Radiol. 27, 723–731; Obuchowski & Rockette 1995, Commun. Stat. 24,
285–308). For a difference of two algorithms ``x`` is the paired difference, question by question and seed by seed.
With the mean squares of seeds, of questions and of the rest (two-way analysis of variance, S seeds, Q questions),

    Var(mean) = MS_seeds / SQ  +  max(MS_questions − MS_rest, 0) / SQ

whose first part is known from S − 1 degrees of freedom only, and the second from many. Each has its own margin,
Student's t with S − 1 degrees for seeds and the normal one for questions, and the two are combined as the root of the
sum of their squares (Zou & Donner 2008, Stat. Med. 27, 1693–1702, as ``intervals.average_interval`` does).

Why this mixed model and no hierarchical bootstrap: the percentiles of three or five resampled seeds are too narrow by
√((S − 1)/S) and by the difference of t and normal quantiles, and too wide by the noise of single answers, which is
counted with the seeds and again with the questions. In simulated studies with a known difference
(``tests/at2po_agent/study/test_statistics.py``) it covered between 0.80 and 1.00 where 0.95 was meant, depending on
which part is larger; the interval here 0.95 to 0.97. Hillis's degrees of freedom (2007, Stat. Med. 26, 596–619), the
usual ones of such studies of diagnosis, covered 0.91 to 0.95 with three seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
FAMILY = 5  # as many comparisons as from which on they are adjusted to each other
POWER = 0.8
_FEW_SEEDS = 200  # below them t and normal quantiles differ


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and questions with its interval, in the unit of the values."""

    mean: float
    low: float
    high: float
    seeds: int
    questions: int
    level: float
    of_seeds: float  # variance of the mean that comes from seeds, 0 where there is one only
    of_questions: float  # and from questions

    def within(self, low: float, high: float) -> Estimate:
        """The same with an interval that is cut off where no value can be."""
        return replace(self, low=max(low, self.low), high=min(high, self.high))

    @property
    def p(self) -> float:
        """The two-sided p-value of a mean of 0: the interval of level 1 − p ends there. 1 where it is not known."""
        if self.mean == 0 or self.seeds < 2:
            return 1.0
        low, high = 0.0, 1.0  # tails
        for _ in range(60):
            tail = (low + high) / 2
            inside = abs(self.mean) <= _margin(self, 1 - tail)
            low, high = (tail, high) if inside else (low, tail)
        return high

    def seeds_for(self, difference: float) -> int | None:
        """Seeds with which a true ``difference`` is found at level 0.95 four times in five; None: no number of them.

        None also where one seed says nothing about others: where the questions alone leave a wider margin, more of
        them are needed.
        """
        if self.seeds < 2:
            return None
        from scipy.special import stdtrit

        normal = (NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(POWER)) ** 2
        left = difference**2 - normal * self.of_questions  # what the margin of seeds may be, squared
        if left <= 0:
            return None
        one_seed = self.of_seeds * self.seeds
        for seeds in range(2, _FEW_SEEDS):
            quantiles = float(stdtrit(seeds - 1, 0.975)) + float(stdtrit(seeds - 1, POWER))
            if quantiles**2 * one_seed / seeds <= left:
                return seeds
        return max(_FEW_SEEDS, math.ceil(normal * one_seed / left))


def estimate(values: FloatArray, *, level: float = 0.95) -> Estimate:
    """The mean of a [seeds, questions] table with its interval; of one seed an interval over its questions only.

    Raises:
        ValueError: the table is empty or holds a value that is not finite.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError("an estimate needs a [seeds, questions] table of finite values")
    seeds, questions = table.shape
    mean = float(table.mean())
    if seeds == 1:
        of_seeds, of_questions = 0.0, float(table[0].var(ddof=1)) / questions if questions > 1 else 0.0
    else:
        of_seeds, of_questions = _variances(table)
    bare = Estimate(mean, mean, mean, seeds, questions, level, of_seeds, of_questions)
    margin = _margin(bare, level)
    return Estimate(mean, mean - margin, mean + margin, seeds, questions, level, of_seeds, of_questions)


def _variances(table: FloatArray) -> tuple[float, float]:
    """Of the mean: the parts that come from seeds, with the noise of single answers in it, and from questions."""
    seeds, questions = table.shape
    mean, by_seed, by_question = table.mean(), table.mean(axis=1), table.mean(axis=0)
    ms_seeds = questions * float(((by_seed - mean) ** 2).sum()) / (seeds - 1)
    if questions == 1:
        return ms_seeds / seeds, 0.0
    ms_questions = seeds * float(((by_question - mean) ** 2).sum()) / (questions - 1)
    rest = table - by_seed[:, None] - by_question[None, :] + mean
    ms_rest = float((rest**2).sum()) / ((seeds - 1) * (questions - 1))
    return ms_seeds / table.size, max(0.0, ms_questions - ms_rest) / table.size


def _margin(of: Estimate, level: float) -> float:
    from scipy.special import stdtrit

    quantile = 1 - (1 - level) / 2
    if quantile >= 1:
        return math.inf
    t, z = float(stdtrit(max(1, of.seeds - 1), quantile)), NormalDist().inv_cdf(quantile)
    return math.sqrt(t**2 * of.of_seeds + z**2 * of.of_questions)


@dataclass(frozen=True)
class Compared:
    """One difference of a family: its interval, and its p-value in the family."""

    estimate: Estimate
    p: float  # Holm-adjusted where the family is adjusted
    adjusted: bool


def family(differences: Sequence[FloatArray]) -> list[Compared]:
    """Several differences from one reference, each a [seeds, questions] table.

    From ``FAMILY`` on they are adjusted: p-values by Holm's procedure (1979, Scand. J. Stat. 6, 65–70), and intervals
    hold together with 95 % (Bonferroni: each has level 1 − 0.05/m).
    """
    adjusted = len(differences) >= FAMILY
    level = 1 - 0.05 / len(differences) if adjusted else 0.95
    estimates = [estimate(table, level=level) for table in differences]
    plain = [one.p for one in estimates]
    ps = holm(plain) if adjusted else plain
    return [Compared(one, p, adjusted) for one, p in zip(estimates, ps, strict=True)]


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, at in enumerate(sorted(range(len(ps)), key=lambda at: ps[at])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[at]))
        adjusted[at] = largest
    return adjusted
