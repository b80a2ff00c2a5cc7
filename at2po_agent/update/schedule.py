"""Settings of the update, and the learning rate of each of its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from at2po_agent.settings import at_least


@dataclass(frozen=True)
class UpdateConfig:
    """Settings of the update."""

    lr: float = at_least(1e-6, 0)  # learning rate of AdamW
    weight_decay: float = at_least(0.01, 0)  # of AdamW
    grad_clip: float = at_least(1.0, 0)  # largest norm of the gradient
    schedule: Literal["constant", "linear", "cosine"] = "constant"  # after the warm-up, over train.steps
    warmup_steps: int = at_least(0, 0)  # optimiser steps with a rising learning rate
    mini_batch: int = at_least(8, 1)  # questions per optimiser step
    max_tokens: int = at_least(8192, 1)  # packed tokens per forward pass
    epochs: int = at_least(1, 1)  # passes over the batch
    old_logprobs: Literal["rollout", "recompute"] = (
        "rollout"  # as sampled by the engine, or computed again before the update
    )
    precision: Literal["weights", "bfloat16"] = "weights"  # of the forward pass; bfloat16 does not change the weights
    attention: Literal["auto", "flex", "blocks"] = (
        "auto"  # how attention runs along trees; auto: flex on a GPU, else blocks
    )
    sharding: Literal["full", "none"] = (
        "full"  # in several processes: split weights, gradients and AdamW's state (FSDP2); none: each has all of them
    )
    gradient_checkpointing: bool = (
        False  # store only each layer's input, and compute the rest again in the backward pass
    )

    def splits(self, processes: int) -> bool:
        """Whether so many processes split the weights."""
        return processes > 1 and self.sharding == "full"


def learning_rate(config: UpdateConfig, step: int, total_steps: int) -> float:
    """The learning rate of optimiser step ``step`` (from 0).

    Rises linearly over ``warmup_steps``, then stays or falls to 0 at ``total_steps``, linearly or as half a cosine.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    left = 1 - min(1.0, (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps))
    shape = {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}
    return config.lr * shape[config.schedule]
