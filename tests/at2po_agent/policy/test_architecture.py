"""Configurations of models that no command can run; the commands themselves are in tests/system/test_refused_models."""

from __future__ import annotations

import pytest
from transformers import BertConfig, FuyuConfig, JambaConfig, LlamaConfig, PreTrainedConfig, T5Config

from at2po_agent.policy.architecture import partial_attention, refuse_unusable
from at2po_agent.policy.base import PolicyError

UNUSABLE = [
    (BertConfig(), "an encoder, which reads in both directions"),
    (T5Config(), "an encoder and a decoder"),
    (FuyuConfig(), "other parts besides its language model"),
    (JambaConfig(), "linear_attention, which the local engine does not have"),
    (LlamaConfig(vocab_size=0), "vocab_size is 0"),
]


@pytest.mark.parametrize(("config", "why"), UNUSABLE, ids=lambda value: getattr(value, "model_type", None))
def test_a_model_that_cannot_be_run_is_refused_by_name(config: PreTrainedConfig, why: str) -> None:
    with pytest.raises(PolicyError, match=f"a {config.model_type} model.*{why}"):
        refuse_unusable(config)


def test_decoders_are_taken() -> None:
    refuse_unusable(LlamaConfig())
    refuse_unusable(BertConfig(is_decoder=True))
    assert partial_attention(LlamaConfig()) == []
