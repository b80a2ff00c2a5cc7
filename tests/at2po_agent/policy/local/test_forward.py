"""The written-out layers beside the model's own modules, and which models they are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Qwen3ForCausalLM

from at2po_agent.policy.local.forward import LlamaForward, ModuleForward, Pass, forward_of
from at2po_agent.policy.local.kv import KVSlots
from at2po_agent.policy.local.policy import LocalPolicy
from at2po_agent.policy.lora import LoraConfig, add_lora
from tests.helpers.tiny_models import ARCHITECTURES, CODEC, NEVER, assert_same, reference, requests, run, tiny

ROPES: dict[str, dict[str, Any]] = {
    "linear": {"factor": 2.0},
    "llama3": {
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 64},
}


def ragged(known: list[int], new: list[int], seed: int = 0) -> Pass:
    """Rows with some tokens in their slots already and some new ones."""
    width, starts, counts = max(new), torch.tensor(known), torch.tensor(new)
    positions = (starts + counts - width)[:, None] + torch.arange(width)
    real = (positions >= starts[:, None]).flatten().nonzero()[:, 0]
    ids = torch.randint(0, CODEC.vocab_size, positions.shape, generator=torch.Generator().manual_seed(seed))
    seen = int((starts + counts).max())
    return Pass(
        slice(1, 1 + len(new)),
        ids,
        positions.clamp(min=0),
        None if len(real) == ids.numel() else real,
        counts.cumsum(0) - 1,
        seen,
    )


@torch.no_grad()
def two_passes(model: Any, forward: Any) -> tuple[list[Tensor], Tensor]:
    """Logits of a ragged prefill and of one more token on every row, and all states."""
    kv = KVSlots(model.config, model.dtype, model.device)
    kv.reserve(5, 40)
    new = [3, 17, 1, 9]
    logits = [forward(kv, ragged([0] * 4, new)), forward(kv, ragged(new, [1] * 4, seed=1))]
    return logits, kv.states


def assert_equal_passes(model: Any, tolerance: float, **options: int) -> None:
    assert isinstance(forward_of(model), LlamaForward)
    ours, states = two_passes(model, LlamaForward(model, **options))
    theirs, expected = two_passes(model, ModuleForward(model))
    for one, other in zip([*ours, states], [*theirs, expected], strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_written_out_layers_equal_the_modules(architecture: str) -> None:
    """Logits and every key and value; with biases, in plain products and in the fused kernel."""
    biases = {"attention_bias": True} if architecture != "qwen2" else {}  # Qwen2 has them always
    model = tiny(architecture, **biases)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "norm.weight")):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    assert_equal_passes(model, 1e-4)
    assert_equal_passes(model, 1e-4, plain_scores=0)


@pytest.mark.parametrize("rope", ROPES)
def test_scaled_positions_equal_the_modules(rope: str) -> None:
    assert_equal_passes(tiny("llama", rope_parameters={"rope_type": rope, "rope_theta": 500.0, **ROPES[rope]}), 1e-4)


def test_bfloat16_stays_close() -> None:
    assert_equal_passes(tiny(initializer_range=0.1).to(torch.bfloat16), 0.05)


@pytest.mark.parametrize("tied", [True, False])
def test_the_output_layer_is_the_model_s_own(tied: bool) -> None:
    model = tiny(tie_word_embeddings=tied)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert_equal_passes(model, 1e-4)


class Halved(Qwen3ForCausalLM):  # type: ignore[misc]
    """A model of one's own that calls itself qwen3."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits / 2
        return output


def _subclass(model: Any) -> None:
    model.__class__ = Halved


def _hook(model: Any) -> None:
    model.model.layers[0].register_forward_hook(lambda module, inputs, output: output * 1.5)


def _replaced_method(model: Any) -> None:
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda x: 2 * type(mlp).forward(mlp, x)


def _replaced_layer(model: Any) -> None:
    mlp = model.model.layers[1].mlp
    mlp.up_proj = torch.nn.Sequential(mlp.up_proj, torch.nn.Tanh())


def _adapters(model: Any) -> None:
    add_lora(model, LoraConfig(rank=2, alpha=8.0), seed=0)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(std=0.5)


@pytest.mark.parametrize("change", [_subclass, _hook, _replaced_method, _replaced_layer, _adapters])
def test_a_changed_model_is_sampled_as_it_is(change: Callable[[Any], None]) -> None:
    """What the written-out layers would not see: the engine uses the modules, and is right."""
    model = tiny()
    asked = requests(5)
    plain = [reference(model, request, NEVER) for request in asked]
    change(model)
    policy = LocalPolicy(model, CODEC)
    try:
        found = run(policy, asked)
    finally:
        policy.close()
    assert_same(found, [reference(model, request, NEVER) for request in asked])
    assert [completion.ids for completion in found] != [completion.ids for completion in plain]


@pytest.mark.parametrize(
    "options",
    [{"hidden_act": "gelu"}, {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0}}],
    ids=["activation", "positions"],
)
def test_other_settings_are_sampled_as_they_are(options: dict[str, Any]) -> None:
    """Another activation, and angles that depend on the length."""
    model, asked = tiny("llama", **options), requests(5)
    assert isinstance(forward_of(model), ModuleForward)
    policy = LocalPolicy(model, CODEC)
    try:
        assert_same(run(policy, asked), [reference(model, request, NEVER) for request in asked])
    finally:
        policy.close()
