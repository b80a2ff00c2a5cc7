"""Sampling against hand-worked numbers, and its noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.local.sampler import Sampled, draw, uniforms


def sample(logits: torch.Tensor, noise: np.ndarray, temperature: float, top: int) -> Sampled:
    return draw(logits, torch.from_numpy(noise), temperature, top).read()


# probabilities 0.5, 0.25, 0.125, 0.125
LOGITS = torch.log(torch.tensor([[4.0, 2.0, 1.0, 1.0]]))


@pytest.mark.parametrize(
    ("noise", "token"), [(0.0, 0), (0.49, 0), (0.5, 1), (0.74, 1), (0.76, 2), (0.88, 3), (1 - 2**-53, 3)]
)
def test_inverse_distribution_function(noise: float, token: int) -> None:
    sampled = sample(LOGITS, np.array([[noise]]), 1.0, 0)
    assert sampled.ids == [[token]]
    assert sampled.logprobs[0] == pytest.approx([math.log((0.5, 0.25, 0.125, 0.125)[token])], abs=1e-6)
    assert sampled.top == [()]


def test_temperature_sharpens_the_sampled_distribution() -> None:
    """At T = 1/2 the weights are squared: 16, 4, 1, 1."""
    sampled = sample(LOGITS.repeat(2, 1), np.array([[0.7], [0.9]]), 0.5, 2)
    assert sampled.ids == [[0], [1]]
    assert [logprob for (logprob,) in sampled.logprobs] == pytest.approx(
        [math.log(16 / 22), math.log(4 / 22)], abs=1e-6
    )
    for top in sampled.top:
        assert [i for i, _ in top] == [0, 1]
        assert [v for _, v in top] == pytest.approx([math.log(16 / 22), math.log(4 / 22)], abs=1e-6)


def test_greedy_takes_the_most_likely_at_temperature_one() -> None:
    sampled = sample(LOGITS, np.array([[0.99, 0.3]]), 0, 0)
    assert sampled.ids == [[0, 0]]
    assert sampled.logprobs[0] == pytest.approx([math.log(0.5)] * 2, abs=1e-6)


def test_one_context_can_be_sampled_many_times() -> None:
    logits = torch.cat([LOGITS, LOGITS.flip(1)])
    sampled = sample(logits, np.array([[0.1, 0.6, 0.9], [0.1, 0.3, 0.9]]), 1.0, 0)
    assert sampled.ids == [[0, 1, 3], [0, 2, 3]]
    expected = [[0.5, 0.25, 0.125], [0.125, 0.25, 0.5]]
    assert np.exp(sampled.logprobs) == pytest.approx(np.array(expected), abs=1e-6)


def test_tokens_of_probability_zero_are_never_sampled() -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    assert sample(logits, np.array([[0.0, 0.5 - 1e-9, 0.5, 1 - 2**-53]]), 1.0, 0).ids == [[1, 1, 3, 3]]


def test_extreme_logits_keep_exact_logprobs() -> None:
    sampled = sample(torch.tensor([[1e4, 1e4 - 50, 0.0]]), np.array([[0.5]]), 1.0, 3)
    assert sampled.logprobs == [[0.0]]
    assert [v for _, v in sampled.top[0]] == [0.0, -50.0, -1e4]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_an_error(bad: float) -> None:
    with pytest.raises(PolicyError, match="not finite"):
        sample(torch.tensor([[0.0, bad]]), np.array([[0.5]]), 1.0, 0)


def test_noise_depends_on_key_and_position_alone() -> None:
    assert (uniforms((1, 2), 5) == uniforms((1, 2), 9)[:5]).all()
    assert not set(uniforms((1, 2), 9)) & set(uniforms((12,), 9))
    many = uniforms((7,), 20_000)
    assert many.min() >= 0 and many.max() < 1
    assert many.mean() == pytest.approx(0.5, abs=5 / math.sqrt(12 * 20_000))


def test_noise_is_the_same_on_every_machine() -> None:
    assert uniforms((3, 0, 17), 3).tolist() == [0.4348527228653527, 0.6469351975680638, 0.5037217387752403]
