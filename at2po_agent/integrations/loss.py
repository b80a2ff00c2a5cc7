"""The turn-level loss on padded rows, for trainers that know rows and masks but no turns.

Numbers are those of ``at2po_agent.method.objective``, which is called: a row of the mask becomes a trajectory, a turn
of it a segment. Padding, prompts and observations are wherever the mask is 0, left, right or in between; what stands
there is never read, and its gradient is 0.

**Turns.** Without ``turn_ids`` a turn is a run of ones in the mask, so adjacent turns without an observation between
them are one turn. Where that can happen give ``turn_ids``.

**Micro-batches.** ``turn_loss`` divides by what it is given. A trainer that splits its mini-batch aggregates
``token_losses`` itself, as the plug-ins beside this file do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from at2po_agent.method.objective import ATPO, LossInputs, LossOutputs, Objective

DEFAULT_OBJECTIVE = ATPO()


def turn_loss(
    logp: Tensor,
    logp_old: Tensor,
    advantages: Tensor,
    mask: Tensor,
    turn_ids: Tensor | None = None,
    objective: Objective = DEFAULT_OBJECTIVE,
) -> tuple[Tensor, dict[str, float]]:
    """The loss to descend of a whole mini-batch, by default AT²PO's, and its metrics.

    Args:
        logp: [B, T] nats, of the current policy at the sampling temperature; carries the gradient.
        logp_old: [B, T] nats, of the policy that sampled.
        advantages: [B, T], or [B, 1] with one for each trajectory.
        mask: [B, T], not 0 where the policy generated the token.
        turn_ids: [B, T] int64, the turn of every token, unique inside its row; only those in the mask are read.
            Without them, see above.
        objective: any of ``at2po_agent.method.objective`` without a KL term and without entropies, or your own.

    Returns:
        The scalar loss, and the objective's metrics. A mini-batch without generated tokens has the loss 0 and none.

    Raises:
        ValueError: shapes differ, or the objective needs what is not here.
    """
    rows = _Rows.read(logp, logp_old, advantages, mask, turn_ids)
    if not rows.inputs.n_tokens:
        return rows.inputs.logp.sum(), {}
    outputs = objective(rows.inputs)
    return outputs.loss, outputs.metrics


def token_losses(
    logp: Tensor,
    logp_old: Tensor,
    advantages: Tensor,
    mask: Tensor,
    turn_ids: Tensor | None = None,
    objective: Objective = DEFAULT_OBJECTIVE,
) -> tuple[Tensor, dict[str, float]]:
    """The same before aggregation: [B, T] losses, 0 outside the mask, for a trainer that aggregates them itself.

    Their mean over each row's tokens and then over the rows is ``turn_loss`` under the default objective.

    Raises:
        ValueError: as ``turn_loss``; or the objective gives no losses of single tokens.
    """
    rows = _Rows.read(logp, logp_old, advantages, mask, turn_ids)
    if not rows.inputs.n_tokens:
        return rows.spread(rows.inputs.logp), {}
    outputs = objective(rows.inputs)
    return rows.spread(_losses_of(outputs, objective)), outputs.metrics


def runs_of(mask: Tensor) -> Tensor:
    """Number the runs of ones in each row of a mask [B, T] from 0 on; −1 outside."""
    kept = mask.bool()
    starts = kept.clone()
    starts[:, 1:] &= ~kept[:, :-1]
    return torch.where(kept, starts.cumsum(1) - 1, -1)


@dataclass(frozen=True)
class _Rows:
    """The generated tokens of padded rows, and where they stand."""

    inputs: LossInputs
    kept: Tensor  # [B, T] bool

    @classmethod
    def read(cls, logp: Tensor, logp_old: Tensor, advantages: Tensor, mask: Tensor, turn_ids: Tensor | None) -> _Rows:
        if logp.ndim != 2:
            raise ValueError(f"logp has the shape {list(logp.shape)}, it must be [rows, tokens]")
        if advantages.ndim == 2 and advantages.shape[1] == 1:
            advantages = advantages.expand_as(logp)
        given = {"logp_old": logp_old, "advantages": advantages, "mask": mask, "turn_ids": turn_ids}
        for name, value in given.items():
            if value is not None and value.shape != logp.shape:
                raise ValueError(f"{name} has the shape {list(value.shape)}, logp {list(logp.shape)}")
        kept = mask.bool()
        row = kept.nonzero()[:, 0]
        turn = (runs_of(mask) if turn_ids is None else turn_ids)[kept]
        # Rows without a generated token are no trajectories, and the objective counts both from 0 without gaps.
        sequences, sequence_ids = torch.unique_consecutive(row, return_inverse=True)
        inputs = LossInputs(
            logp=logp[kept],
            logp_old=logp_old[kept],
            advantage=advantages[kept],
            sequence_ids=sequence_ids,
            turn_ids=torch.unique(torch.stack((row, turn)), dim=1, return_inverse=True)[1],
            n_sequences=len(sequences),
            n_tokens=len(row),
        )
        return cls(inputs, kept)

    def spread(self, rows: Tensor) -> Tensor:
        """Put one value for each generated token back where it stands, [B, T]; 0 elsewhere."""
        return rows.new_zeros(self.kept.shape).masked_scatter(self.kept, rows)


def _losses_of(outputs: LossOutputs, objective: Objective) -> Tensor:
    if outputs.rows is None:
        raise ValueError(f"{objective} gives no losses of single tokens; have it return them as LossOutputs.rows")
    return outputs.rows
