"""Ragged sums, means and softmaxes against a plain loop over the segments."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.method.objective import ATPO, LossInputs, TokenClip
from at2po_agent.method.rows import merge, segment_count, segment_mean, segment_softmax, segment_sum, turn_kl_entropy
from tests.at2po_agent.method.test_objective import mini_batches, take


@given(st.lists(st.tuples(st.floats(-2000, 2000), st.integers(0, 4)), min_size=1, max_size=12))
def test_each_segment_is_as_if_it_were_alone(pairs: list[tuple[float, int]]) -> None:
    rows = torch.tensor([row for row, _ in pairs], dtype=torch.float64)
    ids = torch.tensor([i for _, i in pairs])
    n = int(ids.max()) + 1
    sums, means, softmax = segment_sum(rows, ids, n), segment_mean(rows, ids), segment_softmax(rows, ids, n)
    for i in range(n):
        alone = rows[ids == i]
        assert segment_count(ids)[i] == len(alone)
        assert sums[i].item() == pytest.approx(alone.sum().item(), abs=1e-9)
        assert means[i].item() == pytest.approx(alone.mean().item() if len(alone) else 0.0, abs=1e-9)
        assert softmax[ids == i].tolist() == pytest.approx(alone.softmax(0).tolist(), abs=1e-12)


def test_turn_kl_entropy_by_hand() -> None:
    """Four trajectories: two turns that changed 0.3 and 0.1, two that changed alike, one turn, no change at all."""
    delta = torch.tensor([0.1, 0.2, 0.1, 0.4, 0.1, 0.3, 0.7, 0.0, 0.0], dtype=torch.float64)
    turn_ids = torch.tensor([0, 0, 1, 2, 3, 3, 4, 5, 6])
    sequence_ids = torch.tensor([0, 0, 0, 1, 1, 1, 2, 3, 3])
    p = 1 / (1 + math.exp(1 / 4 - 3 / 4))  # softmax of q = (3/4, 1/4)
    by_hand = -(p * math.log(p) + (1 - p) * math.log(1 - p)) / math.log(2)
    assert turn_kl_entropy(delta, turn_ids, sequence_ids).tolist() == pytest.approx([by_hand, 1.0, 0.0, 0.0])


def test_changes_that_cancel_almost_leave_a_finite_entropy() -> None:
    delta = torch.tensor([1.0, -1.0 + 1e-15, 0.5, -0.5], dtype=torch.float64)
    ids = torch.tensor([0, 0, 1, 1])
    assert turn_kl_entropy(delta, torch.arange(4), ids).tolist() == [0.0, 0.0]


@given(mini_batches())
def test_metrics_of_micro_batches_merge_into_those_of_the_mini_batch(inputs: LossInputs) -> None:
    for objective in (ATPO(kl_coef=0.1), TokenClip(kl_coef=0.1)):
        parts = [take(inputs, (inputs.sequence_ids == i).nonzero()[:, 0]) for i in range(inputs.n_sequences)]
        merged = merge(objective(part).metrics for part in parts)
        assert merged == pytest.approx(objective(inputs).metrics, rel=1e-9, abs=1e-12)


def test_extremes_are_merged_as_extremes() -> None:
    merged = merge(
        [{"ratio_min": 0.9, "ratio_max": 1.1, "ppo_kl": 0.25}, {"ratio_min": 0.8, "ratio_max": 1.0, "ppo_kl": 0.5}]
    )
    assert merged == {"ratio_min": 0.8, "ratio_max": 1.1, "ppo_kl": 0.75}
