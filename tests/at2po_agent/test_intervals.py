from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from at2po_agent.intervals import (
    Interval,
    average_interval,
    mean_interval,
    paired_mean_interval,
    paired_share_interval,
    share_interval,
)


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


@pytest.mark.parametrize(
    ("hits", "low", "high"),
    [(0, 0.0, 0.369417), (1, 0.003160, 0.526510), (4, 0.157012, 0.842988), (8, 0.630583, 1.0)],
)
def test_a_share_of_eight_has_the_exact_interval_of_clopper_and_pearson(hits: int, low: float, high: float) -> None:
    # 0 of 8: 1 − 0.025^(1/8); the others from the tables of Pearson & Hartley (1966)
    found = share_interval([1.0] * hits + [0.0] * (8 - hits))
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))
    assert (found.mean, found.n) == (hits / 8, 8)
    assert share_interval([0.0] * 8).high == pytest.approx(1 - 0.025 ** (1 / 8))


def test_a_large_share_agrees_with_the_normal_approximation() -> None:
    found = share_interval([1.0] * 3000 + [0.0] * 7000)
    half = 1.959964 * math.sqrt(0.3 * 0.7 / 10_000)
    assert (found.low, found.high) == (pytest.approx(0.3 - half, abs=2e-4), pytest.approx(0.3 + half, abs=2e-4))


def test_samples_that_agree_count_as_one_and_those_that_do_not_as_several() -> None:
    alike = [1.0] * 20 + [0.0] * 20  # four samples of each question, all right or all wrong
    mixed = [0.5, 0.25, 0.75, 0.5] * 10  # four samples of each question, about half of them right
    wide, narrow = share_interval(alike), share_interval(mixed)
    assert wide.mean == narrow.mean == 0.5
    assert narrow.high - narrow.low < 0.6 * (wide.high - wide.low)


def covered(samples: int, n: int, p: float, alike: float, rng: np.random.Generator) -> bool:
    """Whether the interval of ``n`` questions holds ``p``; questions differ as Beta(p·a, (1 − p)·a)."""
    chance = np.full(n, p)
    if alike and 0 < p < 1:
        chance = rng.beta(p * (1 / alike - 1), (1 - p) * (1 / alike - 1), n)
    found = share_interval((rng.binomial(samples, chance) / samples).tolist())
    return found.low - 1e-12 <= p <= found.high + 1e-12


@pytest.mark.fault("item 13: intervals of small or extreme samples")
@pytest.mark.parametrize("n", [8, 50, 500])
@pytest.mark.parametrize("p", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize(("samples", "alike"), [(1, 0.0), (4, 0.0), (4, 0.5)])
def test_the_interval_of_a_share_covers_it(samples: int, alike: float, p: float, n: int) -> None:
    rng = np.random.default_rng([n, samples, int(100 * p), int(10 * alike)])
    share = np.mean([covered(samples, n, p, alike, rng) for _ in range(600)])
    assert share >= 0.93, share  # 95 % less what 600 draws may be off


@pytest.mark.fault("item 13: intervals of small or extreme samples")
@pytest.mark.parametrize("n", [8, 50, 500])
@pytest.mark.parametrize(("better", "worse"), [(0.0, 0.0), (0.02, 0.02), (0.1, 0.0), (0.3, 0.2), (0.5, 0.1)])
@pytest.mark.parametrize("samples", [1, 4])
def test_the_interval_of_a_paired_difference_covers_it(samples: int, better: float, worse: float, n: int) -> None:
    rng = np.random.default_rng([n, samples, int(100 * better), int(100 * worse)])
    inside = 0
    for _ in range(600):
        counts = rng.multinomial(samples, [better, worse, 1 - better - worse], size=n)
        change = (counts[:, 0] - counts[:, 1]) / samples
        found = paired_share_interval(np.maximum(-change, 0).tolist(), np.maximum(change, 0).tolist())
        inside += found.low - 1e-12 <= better - worse <= found.high + 1e-12
    assert inside / 600 >= 0.93, inside / 600


@pytest.mark.fault("item 13: intervals of small or extreme samples")
def test_models_that_agree_on_eight_questions_are_not_shown_to_be_equal() -> None:
    # Bonett & Price: 1 of 10 for either side, so ± z · sqrt(0.2 / 10)
    found = paired_share_interval([0.0, 1.0] * 4, [0.0, 1.0] * 4)
    assert (found.mean, found.n) == (0.0, 8)
    assert found.high == -found.low == pytest.approx(1.959964 * math.sqrt(0.2 / 10), abs=1e-6)


def test_a_paired_interval_is_of_differences_of_the_same_question() -> None:
    before = [float(i % 2) for i in range(50)]
    assert paired_share_interval(before, before).high < 0.08
    swapped = paired_share_interval(before, before[::-1])
    assert swapped.mean == 0
    assert swapped.low < -0.2 < 0.2 < swapped.high
    assert paired_share_interval([0, 0, 1], [1, 1, 1]).mean == pytest.approx(2 / 3)  # after − before
    tokens = paired_mean_interval([100.0, 200.0], [110.0, 210.0])
    assert (tokens.mean, tokens.low, tokens.high) == (10.0, 10.0, 10.0)  # an amount: every question gains as much


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_what_is_no_share_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="a share lies between 0 and 1"):
        share_interval([0.5, value])


def test_the_seed_decides_and_blocks_do_not():
    values = [i**0.5 for i in range(40)]
    first = mean_interval(values, seed=5)
    assert mean_interval(values, seed=5) == first
    assert mean_interval(values, seed=6) != first
    assert mean_interval(values, seed=5, block_values=100) == first


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
        paired_share_interval([1.0, 2.0], [1.0])


def test_an_average_weighs_as_it_is_told_whatever_the_numbers_of_questions() -> None:
    parts = [Interval(0.4, 0.3, 0.6, 100), Interval(0.8, 0.6, 0.8, 25)]
    # half of the distances to the bounds, squared and added: 0.05² + 0.1² = 0.0125 below, 0.1² + 0 above
    found = average_interval(parts, [1, 1])
    assert (found.mean, found.n) == (pytest.approx(0.6), 125)
    assert found.low == pytest.approx(0.6 - 0.0125**0.5) and found.high == pytest.approx(0.7)
    # a quarter and three quarters: 0.025² + 0.15² = 0.023125 below, 0.05² + 0 above
    found = average_interval(parts, [5, 15])
    assert (found.mean, found.n) == (pytest.approx(0.7), 125)
    assert found.low == pytest.approx(0.7 - 0.023125**0.5) and found.high == pytest.approx(0.75)
    for wrong, weights in (([], []), (parts, [1]), (parts, [0, 0]), (parts, [2, -1])):
        with pytest.raises(ValueError, match="weight"):
            average_interval(wrong, weights)
