"""Sizes of models whose weights are not here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from at2po_agent.planning.model_sizes import kv_bytes_per_token, read_sizes
from at2po_agent.policy.architecture import outline
from at2po_agent.policy.base import PolicyError
from tests.helpers.tiny_models import tiny

BILLIONS = {"Qwen3-4B": (4.0, 3.6), "Qwen3-8B": (8.2, 6.95), "Qwen2.5-7B": (7.61, 6.53)}  # of the model cards


@pytest.mark.parametrize("name", BILLIONS)
def test_published_models_have_the_parameters_of_their_cards(name: str) -> None:
    sizes, source = read_sizes(f"nowhere/{name}")
    model = outline(sizes, torch.bfloat16)
    whole, without_embeddings = BILLIONS[name]
    assert source == "its published sizes" and {p.device.type for p in model.parameters()} == {"meta"}
    parameters = sum(p.numel() for p in model.parameters())
    outer = {id(e.weight): e.weight.numel() for e in (model.get_input_embeddings(), model.get_output_embeddings())}
    assert parameters / 1e9 == pytest.approx(whole, abs=0.05)
    assert (parameters - sum(outer.values())) / 1e9 == pytest.approx(without_embeddings, abs=0.05)


def test_a_folder_needs_no_weights(tmp_path: Path) -> None:
    tiny("llama").config.save_pretrained(tmp_path)
    sizes, source = read_sizes(str(tmp_path))
    shapes = {name: tensor.shape for name, tensor in outline(sizes, torch.float32).state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in tiny("llama").state_dict().items()}
    assert source == str(tmp_path / "config.json")
    assert len(outline(sizes, torch.float32, layers=1).model.layers) == 1


def test_keys_and_values_of_a_token_by_hand() -> None:
    sizes, _ = read_sizes("Qwen3-8B")
    assert kv_bytes_per_token(sizes, 2) == 2 * 36 * 8 * 128 * 2  # keys and values, layers, heads, dimensions, bytes
    assert kv_bytes_per_token(tiny("llama").config, 4) == 2 * 2 * 2 * 8 * 4  # head_dim is 32 / 4


def test_what_is_nowhere_known_says_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"is not a directory.*config\.json is enough.*qwen3-8b, qwen2\.5-7b"):
        read_sizes("nowhere/Other-9B")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PolicyError, match="cannot be used"):
        read_sizes(str(tmp_path))
