"""Sums and means over ragged rows: every row names its segment (a turn, a trajectory), no loop over segments."""

from __future__ import annotations

import torch
from torch import Tensor


def segment_sum(rows: Tensor, ids: Tensor, n: int) -> Tensor:
    """Sum the rows of each segment. ``rows`` [R], ``ids`` [R] int64 in 0..n-1, result [n]."""
    return rows.new_zeros(n).index_add(0, ids, rows)


def segment_count(ids: Tensor) -> Tensor:
    """Rows of each segment, int64 [max(ids) + 1]."""
    return torch.bincount(ids)


def segment_mean(rows: Tensor, ids: Tensor) -> Tensor:
    """Mean of each segment, [max(ids) + 1]; 0 where an id has no rows."""
    rows_of = segment_count(ids)
    return segment_sum(rows, ids, len(rows_of)) / rows_of.clamp(min=1)


def segment_softmax(scores: Tensor, ids: Tensor, n: int) -> Tensor:
    """Softmax inside each segment. ``scores`` [R], ``ids`` [R] int64 in 0..n-1, result [R]."""
    highest = scores.new_full((n,), -torch.inf).scatter_reduce(0, ids, scores, "amax")
    weights = (scores - highest[ids]).exp()
    return weights / segment_sum(weights, ids, n)[ids]
