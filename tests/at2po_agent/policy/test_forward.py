"""The written-out layers beside the model's own modules, and which models they are for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from at2po_agent.policy.forward import LlamaForward, ModuleForward, Pass, forward_of
from at2po_agent.policy.kv import KVSlots
from tests.at2po_agent.policy.tiny import ARCHITECTURES, CODEC, tiny

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


def assert_equal_passes(model: Any, tolerance: float) -> None:
    assert isinstance(forward_of(model), LlamaForward)
    (ours, states), (theirs, expected) = (two_passes(model, make(model)) for make in (LlamaForward, ModuleForward))
    for one, other in zip([*ours, states], [*theirs, expected], strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_written_out_layers_equal_the_modules(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits and every key and value; with biases, in plain products and in the fused kernel."""
    biases = {"attention_bias": True} if architecture != "qwen2" else {}  # Qwen2 has them always
    model = tiny(architecture, **biases)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "norm.weight")):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    assert_equal_passes(model, 1e-4)
    monkeypatch.setattr("at2po_agent.policy.forward._PLAIN_SCORES", 0)
    assert_equal_passes(model, 1e-4)


@pytest.mark.parametrize("rope", ROPES)
def test_scaled_positions_equal_the_modules(rope: str) -> None:
    assert_equal_passes(tiny("llama", rope_parameters={"rope_type": rope, "rope_theta": 500.0, **ROPES[rope]}), 1e-4)


def test_bfloat16_stays_close() -> None:
    assert_equal_passes(tiny(initializer_range=0.1).to(torch.bfloat16), 0.05)


def test_other_models_go_through_their_own_modules() -> None:
    """Another activation, angles that depend on the length, a layer that is not torch's own."""
    dynamic = {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0}
    assert isinstance(forward_of(tiny("llama", hidden_act="gelu")), ModuleForward)
    assert isinstance(forward_of(tiny("llama", rope_parameters=dynamic)), ModuleForward)
    model = tiny()
    model.model.layers[1].mlp.up_proj = torch.nn.Sequential(model.model.layers[1].mlp.up_proj)
    assert isinstance(forward_of(model), ModuleForward)
