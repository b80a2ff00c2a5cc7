"""SkyRL 0.3: the policy loss ``atpo`` and the advantage estimator ``at2po`` in its registries, once this is imported.

Import it in your entry point before SkyRL validates its configuration, see ``examples/skyrl/``. SkyRL scales advantages
by its ``loss_reduction`` and sums the losses of tokens; AT²PO's is ``sequence_mean``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from skyrl.backends.skyrl_train.utils.off_policy_correction_utils import apply_off_policy_correction
from skyrl.backends.skyrl_train.utils.ppo_utils import reduce_loss, register_advantage_estimator, register_policy_loss
from skyrl.train.config import AlgorithmConfig
from torch import Tensor

from at2po_agent.integrations.credit import padded_advantages
from at2po_agent.integrations.loss import token_losses
from at2po_agent.method.objective import ATPO


def policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    config: AlgorithmConfig,
    loss_mask: Tensor | None = None,
    rollout_logprobs: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """AT²PO's loss, with the signature that SkyRL calls.

    The bounds are ``eps_clip_low`` and ``eps_clip_high`` of the algorithm's configuration. SkyRL's own defaults, 0.2
    and 0.2, are of token ratios: set 3e-3 and 4e-3.

    Raises:
        ValueError: bounds out of range.
    """
    mask = torch.ones_like(log_probs) if loss_mask is None else loss_mask
    objective = ATPO(eps_low=config.eps_clip_low, eps_high=config.eps_clip_high)
    losses, metrics = token_losses(log_probs, old_log_probs, advantages, mask, objective=objective)
    losses, mask, corrections = apply_off_policy_correction(
        losses, old_log_probs, rollout_logprobs, mask, config.off_policy_correction
    )
    metrics["clip_ratio"] = metrics.pop("clip_fraction", 0.0)  # as the losses of SkyRL name it
    return reduce_loss(losses, mask), {**metrics, **corrections}


def advantage(
    token_level_rewards: Tensor, response_mask: Tensor, index: Sequence[str], **_: Any
) -> tuple[Tensor, Tensor]:
    """AT²PO's turn-wise credit, with the signature of SkyRL's estimators.

    SkyRL hands an estimator neither token ids nor log-probabilities, so every response is a chain that shares no turn
    with another.

    Returns:
        [B, T] advantages, twice: SkyRL also wants returns, which only a critic reads.
    """
    advantages = padded_advantages(token_level_rewards.sum(-1), response_mask, index)
    return advantages, advantages


register_policy_loss("atpo")(policy_loss)
register_advantage_estimator("at2po")(advantage)
