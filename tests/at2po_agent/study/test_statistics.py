"""Intervals over seeds and questions: by hand, and how often they hold the truth in simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest

from at2po_agent.study.statistics import estimate, family, holm


def test_two_seeds_and_two_questions_by_hand():
    found = estimate(np.array([[0.0, 2.0], [2.0, 4.0]]))
    # Means of seeds 1 and 3, of questions 1 and 3: both mean squares are 4, and nothing is left.
    assert (found.mean, found.of_seeds, found.of_questions) == (2.0, 1.0, 1.0)
    margin = math.sqrt(12.7062**2 * 1.0 + 1.95996**2 * 1.0)
    assert found.high - found.mean == pytest.approx(margin, rel=1e-5)
    assert found.low == pytest.approx(2.0 - margin, rel=1e-5)


def test_questions_that_differ_by_chance_only_add_nothing():
    found = estimate(np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert (found.mean, found.of_seeds, found.of_questions) == (0.5, 0.0, 0.0)


def test_the_interval_of_level_one_minus_p_ends_at_zero():
    table = np.random.default_rng(0).normal(0.3, 1.0, (4, 60))
    found = estimate(table)
    again = estimate(table, level=1 - found.p)
    assert min(abs(again.low), abs(again.high)) < 1e-9
    assert (found.low > 0) == (found.p < 0.05)


def test_one_seed_says_nothing_of_other_seeds():
    found = estimate(np.array([[0.0, 1.0, 1.0, 0.0] * 20]))
    assert found.mean == 0.5 and 0.35 < found.low < 0.45 < 0.55 < found.high < 0.65
    assert found.p == 1.0 and found.seeds_for(0.01) is None


def test_more_seeds_are_needed_for_a_smaller_difference_and_none_are_enough_where_questions_are_few():
    rng = np.random.default_rng(1)
    steady = estimate(0.02 * rng.standard_normal((5, 1)) + np.zeros((5, 400)))
    few, many, very_many = (steady.seeds_for(difference) for difference in (0.05, 0.01, 0.001))
    assert few is not None and many is not None and very_many is not None and 2 < few < many < very_many
    # With many seeds the margin is the normal one: (1.96 + 0.84)² · variance / seeds.
    assert very_many == pytest.approx(7.849 * steady.of_seeds * 5 / 0.001**2, rel=1e-3)
    assert (
        estimate(rng.standard_normal((1, 10)).repeat(3, axis=0) + 1e-3 * rng.standard_normal((3, 1))).seeds_for(0.01)
        is None
    )


def test_a_family_of_five_is_adjusted_and_one_of_four_is_not():
    rng = np.random.default_rng(2)
    tables = [rng.normal(0.2, 1.0, (3, 50)) for _ in range(5)]
    four, five = family(tables[:4]), family(tables)
    assert not any(one.adjusted for one in four) and all(one.adjusted for one in five)
    assert five[0].estimate.level == 0.99
    assert five[0].estimate.high - five[0].estimate.low > four[0].estimate.high - four[0].estimate.low
    assert [one.p for one in four] == [one.estimate.p for one in four]


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def study(rng: np.random.Generator, seeds: int, questions: int, of_seeds: float, of_questions: float) -> np.ndarray:
    """Paired differences of 0/1 answers of two algorithms, the second 5 points better in the mean over both."""
    base = rng.uniform(0.3, 0.7, questions)
    gain = 0.05 + np.clip(of_questions * rng.standard_normal(questions), -0.22, 0.22)
    first, second = of_seeds * rng.standard_normal((2, seeds, 1))
    answers = [rng.random((seeds, questions)) < chance for chance in (base + first, base + gain + second)]
    return answers[1].astype(float) - answers[0].astype(float)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("of_seeds", "of_questions"), [(0.0, 0.1), (0.02, 0.05), (0.03, 0.1)])
def test_the_interval_holds_the_known_difference_in_95_of_100_studies(seeds, of_seeds, of_questions):
    rng = np.random.default_rng([7, seeds])
    found = [estimate(study(rng, seeds, 400, of_seeds, of_questions)) for _ in range(500)]
    covered = np.mean([one.low <= 0.05 <= one.high for one in found])
    assert 0.93 <= covered <= 0.97
