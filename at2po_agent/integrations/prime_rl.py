"""prime-rl: its custom loss and custom advantage functions, by the signatures that it publishes.

https://docs.primeintellect.ai/prime-rl/bring-your-own-algorithms. It is on no package index, so this is tested against
those signatures and not against the package::

    [loss]
    type = "custom"
    import_path = "at2po_agent.integrations.prime_rl.turn_level_loss"
    kwargs = { eps_low = 3e-3, eps_high = 4e-3 }

    [advantage]
    type = "custom"
    import_path = "at2po_agent.integrations.prime_rl.group_advantage"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from at2po_agent.integrations.credit import padded_advantages
from at2po_agent.integrations.loss import token_losses
from at2po_agent.method.objective import ATPO

if TYPE_CHECKING:
    from prime_rl.orchestrator.advantage import AdvantageInputs, AdvantageOutputs
    from prime_rl.trainer.rl.loss import LossInputs, LossOutputs


def turn_level_loss(
    inputs: LossInputs, eps_low: float = 3e-3, eps_high: float = 4e-3, sequence_mean: bool = False
) -> LossOutputs:
    """AT²PO's loss of one sequence: the sum over its generated tokens, which prime-rl adds up and divides.

    prime-rl divides by one scale for the whole batch, its loss tokens: together that is a mean over tokens. With
    ``sequence_mean`` each sequence is divided by its own length first, as AT²PO does; the batch's scale then changes
    the size of the loss and nothing else.

    Args:
        inputs: of one sequence, ``trainer_logprobs``, ``inference_logprobs``, ``advantages`` and ``loss_mask`` [T].
        eps_low: lower bound of the turn's ratio, below 1.
        eps_high: upper bound, above 1.
        sequence_mean: see above.
    """
    from prime_rl.trainer.rl.loss import LossOutputs

    mask = inputs.loss_mask[None]
    rows = (inputs.trainer_logprobs[None], inputs.inference_logprobs[None], inputs.advantages[None], mask)
    losses, metrics = token_losses(*rows, objective=ATPO(eps_low, eps_high))
    loss = losses.sum()
    if sequence_mean:
        loss = loss / mask.sum().clamp(min=1)
    return LossOutputs(loss=loss, metrics={name: losses.new_tensor(value) for name, value in metrics.items()})


def group_advantage(inputs: AdvantageInputs) -> AdvantageOutputs:
    """AT²PO's credit where no rollouts share a turn: prime-rl hands on rewards and lengths, and no tokens.

    Args:
        inputs: ``rewards`` [examples, rollouts of each].
    """
    from prime_rl.orchestrator.advantage import AdvantageOutputs

    examples, rollouts = inputs.rewards.shape
    group = [example for example in range(examples) for _ in range(rollouts)]
    rows = inputs.rewards.flatten()
    advantages = padded_advantages(rows, torch.ones(len(rows), 1, dtype=torch.bool), group)
    return AdvantageOutputs(advantages=advantages.view(examples, rollouts))
