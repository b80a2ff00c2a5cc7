from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from at2po_agent.intervals import grouped_interval, mean_interval, paired_interval


def test_three_values_against_every_possible_resample():
    # 27 equally likely resamples of (0, 0, 3): mean 0 with 8/27, 1 with 12/27, 2 with 6/27, 3 with 1/27 (≈ 3.7 %)
    values = (0.0, 0.0, 3.0)
    exact = [sum(sample) / 3 for sample in itertools.product(values, repeat=3)]
    for level, want in ((0.95, (0.0, 3.0)), (0.80, (0.0, 2.0)), (0.30, (1.0, 1.0))):
        low, high = np.quantile(exact, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
        assert (low, high) == want
        found = mean_interval(values, level=level, resamples=20_000)
        assert (found.low, found.high) == want
    assert found.mean == 1.0
    assert found.n == 3


def test_a_proportion_agrees_with_the_normal_approximation():
    values = [1.0] * 300 + [0.0] * 700
    found = mean_interval(values)
    half = 1.959964 * math.sqrt(0.3 * 0.7 / 1000)
    assert found.mean == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3 - half, abs=0.003)
    assert found.high == pytest.approx(0.3 + half, abs=0.003)


def test_a_paired_interval_knows_that_questions_are_the_same():
    # every question gains exactly 0.1, whatever its difficulty: the interval has no width
    before = [float(i % 2) for i in range(50)]
    found = paired_interval(before, [value + 0.1 for value in before])
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    swapped = paired_interval(before, before[::-1])
    assert swapped.mean == 0
    assert swapped.low < -0.1 < 0.1 < swapped.high
    assert paired_interval([0, 0, 1], [1, 1, 1]).mean == pytest.approx(2 / 3)  # after − before


def test_the_seed_decides_and_blocks_do_not(monkeypatch: pytest.MonkeyPatch):
    values = [i**0.5 for i in range(40)]
    first = mean_interval(values, seed=5)
    assert mean_interval(values, seed=5) == first
    assert mean_interval(values, seed=6) != first
    monkeypatch.setattr("at2po_agent.intervals._BLOCK_VALUES", 100)
    assert mean_interval(values, seed=5) == first


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.inf], [[1.0], [2.0]]])
def test_values_without_an_interval(values):
    with pytest.raises(ValueError, match="interval needs"):
        mean_interval(values)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="level is 95"):
        mean_interval([1.0], level=95)
    with pytest.raises(ValueError, match="resamples"):
        mean_interval([1.0], resamples=0)
    with pytest.raises(ValueError, match="equal lengths, got 2 and 1"):
        paired_interval([1.0, 2.0], [1.0])


def test_an_average_over_groups_weighs_groups_and_not_questions():
    # (0, 0, 3) and (6,): the mean of the means is 3.5, where that of the values is 2.25; the single value never moves,
    # so the average moves half as far as the mean of the three
    three = mean_interval((0.0, 0.0, 3.0), resamples=20_000)
    found = grouped_interval([(0.0, 0.0, 3.0), (6.0,)], resamples=20_000)
    assert (found.mean, found.n) == (3.5, 4)
    assert (found.low, found.high) == (3 + three.low / 2, 3 + three.high / 2)


def test_an_average_over_groups_agrees_with_the_normal_approximation():
    groups = [[1.0] * 30 + [0.0] * 70, [1.0] * 200 + [0.0] * 200]
    half = 1.959964 / 2 * math.sqrt(0.3 * 0.7 / 100 + 0.5 * 0.5 / 400)
    found = grouped_interval(groups)
    assert (found.low, found.high) == (pytest.approx(0.4 - half, abs=0.005), pytest.approx(0.4 + half, abs=0.005))


@pytest.mark.parametrize("groups", [[], [[1.0], []], [[1.0], [math.nan]]])
def test_groups_without_finite_values_are_refused(groups):
    with pytest.raises(ValueError, match="an interval needs"):
        grouped_interval(groups)
