"""Sums and means over ragged rows: every row names its segment (a turn, a trajectory), no loop over segments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def segment_sum(rows: Tensor, ids: Tensor, n: int) -> Tensor:
    """Sum the rows of each segment. ``rows`` [R], ``ids`` [R] int64 in 0..n-1, result [n]."""
    return rows.new_zeros(n).index_add(0, ids, rows)


def segment_count(ids: Tensor) -> Tensor:
    """Rows of each segment, int64 [max(ids) + 1]."""
    import torch

    return torch.bincount(ids)


def segment_mean(rows: Tensor, ids: Tensor) -> Tensor:
    """Mean of each segment, [max(ids) + 1]; 0 where an id has no rows."""
    rows_of = segment_count(ids)
    return segment_sum(rows, ids, len(rows_of)) / rows_of.clamp(min=1)


def segment_softmax(scores: Tensor, ids: Tensor, n: int) -> Tensor:
    """Softmax inside each segment. ``scores`` [R], ``ids`` [R] int64 in 0..n-1, result [R]."""
    import torch

    highest = scores.new_full((n,), -torch.inf).scatter_reduce(0, ids, scores, "amax")
    weights = (scores - highest[ids]).exp()
    return weights / segment_sum(weights, ids, n)[ids]


def merge(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The metrics of a mini-batch from those of its micro-batches."""
    merged: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            if name not in merged:
                merged[name] = value
            elif name.endswith("_min"):
                merged[name] = min(merged[name], value)
            elif name.endswith("_max"):
                merged[name] = max(merged[name], value)
            else:
                merged[name] += value
    return merged


def turn_kl_entropy(delta: Tensor, turn_ids: Tensor, sequence_ids: Tensor) -> Tensor:
    """Evenness of the policy's change over a trajectory's turns: 1 is even, 0 all in one turn.

    ``q_k = Σ_{t∈T_k} Δ_t / Σ_t Δ_t``, ``p = softmax(q)`` over the trajectory's turns, and the result is
    ``−Σ p log p / log #turns`` (AT²PO, arXiv 2601.04767, and its code's ``turn_kl_entropy``).

    Args:
        delta: [R] ``logp − logp_old`` of every row.
        turn_ids: [R] turn of every row, 0..K-1, unique over (trajectory, turn).
        sequence_ids: [R] trajectory of every row, 0..S-1.

    Returns:
        [S] one value per trajectory; 0 where it has one turn or no difference.
    """
    import torch

    turns = int(turn_ids.max()) + 1
    sequence_of = torch.zeros(turns, dtype=torch.int64, device=delta.device).index_copy(0, turn_ids, sequence_ids)
    n_turns = segment_count(sequence_of)
    of_turn = segment_sum(delta, turn_ids, turns)
    total = segment_sum(of_turn, sequence_of, len(n_turns))
    changed = total != 0
    share = of_turn / torch.where(changed, total, 1.0)[sequence_of]
    p = segment_softmax(share, sequence_of, len(n_turns))
    entropy = -segment_sum(torch.xlogy(p, p), sequence_of, len(n_turns))
    # A single turn has p = 1 and entropy 0, whatever it is divided by.
    return torch.where(changed, entropy / n_turns.clamp(min=2).log(), 0.0)


def as_floats(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    """Read scalars off the device in one transfer."""
    import torch

    values = torch.stack([value.detach().double() for value in metrics.values()]).tolist()
    return dict(zip(metrics, values, strict=True))
