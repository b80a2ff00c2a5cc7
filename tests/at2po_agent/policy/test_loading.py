"""Model directories that are whole, and all the ways in which one is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.loading import load_policy
from at2po_env.state import Segment
from tests.helpers.real_tokenizers import byte_bpe
from tests.helpers.tiny_models import tiny

JUNK = bytes(range(128, 256)) * 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny().save_pretrained(tmp_path)
    byte_bpe().save_pretrained(tmp_path)
    return tmp_path


def test_a_whole_directory_gives_its_weights_and_its_tokenizer(folder: Path) -> None:
    model, codec = load_policy(folder, torch.bfloat16)
    assert model.dtype == torch.bfloat16 and model.config._attn_implementation == "sdpa"
    for name, tensor in tiny().state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor.bfloat16())
    ids = codec.observation((Segment("Grüße", data=True),))
    assert ids and codec.decode_action(ids) == "Grüße"


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def junk(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(JUNK)


def changed(**values: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | values))

    return change


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("config.json"), "no model in"),
        (junk("config.json"), "cannot be loaded: .*config"),
        (changed(model_type="no-such-model"), "no-such-model"),
        (changed(hidden_size=16), "cannot be loaded"),
        (without("model.safetensors"), "model.safetensors"),
        (junk("model.safetensors"), "cannot be loaded"),
        (without_tokenizer, "no tokenizer in"),
        (junk("tokenizer.json"), "cannot be loaded"),
        (lambda folder: (folder / "tokenizer.json").write_text('{"a": 1}'), "cannot be loaded"),
    ],
)
def test_what_is_not_whole_is_one_error(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(PolicyError, match=message) as caught:
        load_policy(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_weights_that_are_missing_are_never_made_up(folder: Path) -> None:
    changed(num_hidden_layers=3, layer_types=["full_attention"] * 3)(folder)
    with pytest.raises(PolicyError, match=r"lacks 11 of its weights, model\.layers\.2\."):
        load_policy(folder)
