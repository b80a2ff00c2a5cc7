"""The same loss and gradient from the objective and from the plug-in of each trainer that is installed, on one batch.

::

    python examples/same_numbers.py      # here, and in the environment of each trainer that `make integrations` makes

Three trajectories of several turns, off-policy, padded left and right. A trainer's plug-in is called through the
trainer's own registry and aggregated by the trainer's own code.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import torch
from torch import Tensor

from at2po_agent.integrations import runs_of, turn_loss
from at2po_agent.method.objective import ATPO, LossInputs

LossOf = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
LAYOUT = ((2, (3, 1, 2)), (0, (1,)), (1, (2, 4)))  # of each row: padding on the left, lengths of its turns
EPS_LOW, EPS_HIGH = 3e-3, 4e-3


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``logp``, ``logp_old``, advantages and mask, each [3, 14]."""
    rng = np.random.default_rng(0)
    values, mask = np.zeros((3, len(LAYOUT), 14)), np.zeros((len(LAYOUT), 14), dtype=np.int64)
    for row, (at, turns) in enumerate(LAYOUT):
        for length in turns:
            span = slice(at, at + length)
            old = -rng.uniform(0.01, 3, length)
            values[:, row, span] = old + 0.004 * rng.normal(size=length), old, np.full(length, rng.normal())
            mask[row, span] = 1
            at += length + 2
    logp, logp_old, advantages = torch.from_numpy(values)
    return logp, logp_old, advantages, torch.from_numpy(mask)


def by_objective(logp: Tensor, logp_old: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """The objective itself, on rows laid out by hand."""
    kept = mask.bool()
    sequence_ids = kept.nonzero()[:, 0]
    turns = sequence_ids * mask.shape[1] + runs_of(mask)[kept]
    inputs = LossInputs(
        logp=logp[kept],
        logp_old=logp_old[kept],
        advantage=advantages[kept],
        sequence_ids=sequence_ids,
        turn_ids=torch.unique(turns, return_inverse=True)[1],
        n_sequences=len(mask),
        n_tokens=len(turns),
    )
    return ATPO(EPS_LOW, EPS_HIGH)(inputs).loss


def by_core(logp: Tensor, logp_old: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """``turn_loss``."""
    return turn_loss(logp, logp_old, advantages, mask, objective=ATPO(EPS_LOW, EPS_HIGH))[0]


def by_verl(logp: Tensor, logp_old: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """The registry of verl, and its ``agg_loss``."""
    from verl.trainer.ppo.core_algos import get_policy_loss_fn
    from verl.workers.config import FSDPActorConfig

    import at2po_agent.integrations.verl  # noqa: F401

    bounds = {"clip_ratio_low": EPS_LOW, "clip_ratio_high": EPS_HIGH}
    config = FSDPActorConfig(strategy="fsdp", rollout_n=1, ppo_micro_batch_size_per_gpu=1, **bounds)
    loss: Tensor = get_policy_loss_fn("atpo")(
        old_log_prob=logp_old,
        log_prob=logp,
        advantages=advantages,
        response_mask=mask.bool(),
        loss_agg_mode="seq-mean-token-mean",
        config=config,
        rollout_is_weights=None,
    )[0]
    return loss


def by_skyrl(logp: Tensor, logp_old: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """The registry of SkyRL, and its loss reduction."""
    from skyrl.backends.skyrl_train.utils import ppo_utils
    from skyrl.train.config import AlgorithmConfig

    import at2po_agent.integrations.skyrl  # noqa: F401

    config = AlgorithmConfig(policy_loss_type="atpo", eps_clip_low=EPS_LOW, eps_clip_high=EPS_HIGH)
    scaled = ppo_utils.apply_loss_reduction_to_advantages_minibatch(advantages, mask, "sequence_mean", 1, 14)
    loss: Tensor = ppo_utils.PolicyLossRegistry.get("atpo")(logp, logp_old, scaled, config=config, loss_mask=mask)[0]
    return loss


TRAINERS: dict[str, LossOf] = {"verl": by_verl, "skyrl": by_skyrl}


def is_installed(name: str) -> bool:
    """Whether a distribution of this name is installed."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def main() -> None:
    """Print one line for each."""
    installed = {name: loss_of for name, loss_of in TRAINERS.items() if is_installed(name)}
    logp, *rest = batch()
    for name, loss_of in {"objective": by_objective, "turn_loss": by_core, **installed}.items():
        leaf = logp.clone().requires_grad_()
        loss = loss_of(leaf, *rest)
        (gradient,) = torch.autograd.grad(loss, leaf)
        shown = " ".join(f"{value:+.7f}" for value in gradient[0, 2:7].tolist())
        print(f"{name:10} loss {loss.item():+.9f}  |gradient| {gradient.norm().item():.9f}  of the first row: {shown}")


if __name__ == "__main__":
    main()
