"""Objective of your own: REINFORCE with the ratio of each token, unclipped."""

from dataclasses import dataclass
from typing import ClassVar

from at2po_agent.method.objective import LossInputs, LossOutputs, aggregate, token_ratio
from at2po_agent.method.rows import as_floats


@dataclass(frozen=True)
class Reinforce:
    """``objective: {name: "examples.components.objective:Reinforce", scale: 0.5}``."""

    scale: float = 1.0
    kl_coef: float = 0.0  # above 0 a reference policy is loaded, and inputs.logp_ref is there
    uses_entropy: ClassVar[bool] = False  # whether inputs.entropy is needed

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale is {self.scale}, it must be above 0")

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        """The share of these rows in the loss and the metrics of the mini-batch."""
        ratio = token_ratio(inputs)
        loss = aggregate(-self.scale * inputs.advantage * ratio, inputs, "token_mean")
        metrics = {"ppo_kl": (inputs.logp_old - inputs.logp.detach()).sum() / inputs.n_tokens}
        return LossOutputs(loss, as_floats(metrics))
