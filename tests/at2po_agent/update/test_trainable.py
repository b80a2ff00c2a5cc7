"""Which models can be trained is seen from their configuration alone."""

from __future__ import annotations

import pytest
from transformers import CohereConfig, GraniteConfig, LlamaConfig, OPTConfig, PreTrainedConfig

from at2po_agent.policy.base import PolicyError
from at2po_agent.update.trainable import refuse_untrainable

SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}


@pytest.mark.parametrize("config", [CohereConfig(**SIZES, logit_scale=0.1), GraniteConfig(**SIZES, logits_scaling=8)])
def test_logits_that_are_scaled_are_refused(config: PreTrainedConfig) -> None:
    with pytest.raises(PolicyError, match=f"a {config.model_type} model scales or caps its logits"):
        refuse_untrainable(config)


def test_a_factor_of_one_changes_nothing() -> None:
    for config in (LlamaConfig(**SIZES), GraniteConfig(**SIZES, logits_scaling=1.0), OPTConfig()):
        refuse_untrainable(config)


def test_sizes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(PolicyError, match="of these sizes cannot be run"):
        refuse_untrainable(LlamaConfig(**SIZES, num_key_value_heads=3))
