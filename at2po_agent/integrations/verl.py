"""verl 0.9: the policy loss ``atpo`` and the advantage estimator ``at2po`` in its registries, once this is imported.

::

    VERL_USE_EXTERNAL_MODULES=at2po_agent.integrations.verl python -m verl.trainer.main_ppo … \
        algorithm.adv_estimator=at2po actor_rollout_ref.actor.policy_loss.loss_mode=atpo …

The loss is aggregated by verl, in any of its modes; AT²PO's is ``seq-mean-token-mean``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from verl.trainer.ppo.core_algos import agg_loss, register_adv_est, register_policy_loss
from verl.workers.config import ActorConfig

from at2po_agent.integrations.credit import padded_advantages
from at2po_agent.integrations.loss import token_losses
from at2po_agent.method.objective import ATPO


def policy_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "seq-mean-token-mean",
    config: ActorConfig | None = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """AT²PO's loss, with the signature that verl calls.

    The bounds are ``clip_ratio_low`` and ``clip_ratio_high`` of the actor's configuration. verl's own defaults, 0.2 and
    0.2, are of token ratios: set 3e-3 and 4e-3.

    Raises:
        ValueError: no configuration, or bounds out of range.
    """
    if config is None:
        raise ValueError("the policy loss atpo needs the actor's config, for clip_ratio_low and clip_ratio_high")
    objective = ATPO(eps_low=config.clip_ratio_low, eps_high=config.clip_ratio_high)
    losses, metrics = token_losses(log_prob, old_log_prob, advantages, response_mask, objective=objective)
    if rollout_is_weights is not None:
        losses = losses * rollout_is_weights
    loss = agg_loss(loss_mat=losses, loss_mask=response_mask, loss_agg_mode=loss_agg_mode, **config.global_batch_info)
    metrics["pg_clipfrac"] = metrics.pop("clip_fraction", 0.0)  # as the losses of verl name it
    return loss, {f"actor/{name}": value for name, value in metrics.items()}


def advantage(
    token_level_rewards: Tensor,
    response_mask: Tensor,
    index: Sequence[str],
    responses: Tensor | None = None,
    old_log_probs: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """AT²PO's turn-wise credit, with the signature of verl's estimators.

    verl hands an estimator neither token ids nor log-probabilities, so every response is a chain that shares no turn
    with another. A trainer of your own that hands on ``responses`` and ``old_log_probs`` gets the tree that they make.

    Returns:
        [B, T] advantages, twice: verl also wants returns, which only a critic reads.
    """
    rewards = token_level_rewards.sum(-1)
    advantages = padded_advantages(rewards, response_mask, index, responses, old_log_probs)
    return advantages, advantages


register_policy_loss("atpo")(policy_loss)
register_adv_est("at2po")(advantage)
