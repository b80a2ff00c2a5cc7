"""Trajectories as another trainer holds them, from trees; and padded rows to lose and differentiate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from at2po_agent.integrations import Trajectory
from at2po_agent.method.tree import ROOT, TurnTree


def trajectories_of(tree: TurnTree, rewards: Mapping[int, float], given: bool = False) -> list[Trajectory]:
    """One for each leaf, with the prompt; with ``given``, the tree's nodes as turn ids."""
    trajectories = []
    for leaf, path in tree.trajectories():
        prompt = tree[ROOT].observation
        ids, mask, logp, nodes = list(prompt), [0] * len(prompt), [0.0] * len(prompt), [0] * len(prompt)
        for n in path:
            action, observation = tree[n].action, tree[n].observation
            ids += [*action, *observation]
            mask += [1] * len(action) + [0] * len(observation)
            logp += [*tree[n].logp, *[0.0] * len(observation)]
            nodes += [n] * (len(action) + len(observation))
        trajectories.append(Trajectory(ids, mask, logp, rewards[leaf], nodes if given else None))
    return trajectories


@dataclass(frozen=True)
class PaddedRows:
    """A mini-batch of ragged multi-turn rows, padded left and right."""

    logp: Tensor  # [B, T]
    logp_old: Tensor  # [B, T]
    advantages: Tensor  # [B, T]
    mask: Tensor  # [B, T] 0 or 1

    def finite(self) -> PaddedRows:
        """The same with zeros as padding, for trainers that multiply by the mask."""
        return PaddedRows(*(rows.nan_to_num() for rows in (self.logp, self.logp_old, self.advantages)), self.mask)

    def loss_and_gradient(self, loss_of: object) -> tuple[float, Tensor]:
        """Of a function of the four tensors that gives the loss first."""
        logp = self.logp.clone().requires_grad_()
        loss, *_ = loss_of(logp, self.logp_old, self.advantages, self.mask)  # type: ignore[operator]
        (gradient,) = torch.autograd.grad(loss, logp)
        return loss.item(), gradient


def padded_rows(
    turns: Sequence[Sequence[int]] = ((3, 1, 2), (1,), (2, 4)), seed: int = 0, dtype: torch.dtype = torch.float64
) -> PaddedRows:
    """Off-policy rows with turns of the given lengths, observations between them, and an advantage for every turn.

    Padding holds NaN, as memory that nobody wrote may: no number may come from there.
    """
    rng = np.random.default_rng(seed)
    width = max(sum(lengths) + 2 * len(lengths) for lengths in turns) + 3
    values = np.full((3, len(turns), width), np.nan)
    mask = np.zeros((len(turns), width), dtype=np.int64)
    for i, lengths in enumerate(turns):
        at = 1 + i % 3
        for length in lengths:
            span = slice(at, at + length)
            old = -rng.uniform(0.01, 3, length)
            values[:, i, span] = old + 0.004 * rng.normal(size=length), old, np.full(length, rng.normal())
            mask[i, span] = 1
            at += length + 1 + i % 2
    logp, logp_old, advantages = torch.tensor(values, dtype=dtype)
    return PaddedRows(logp, logp_old, advantages, torch.tensor(mask))
