"""Ragged sums, means and softmaxes against a plain loop over the segments."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.method.rows import segment_count, segment_mean, segment_softmax, segment_sum


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
