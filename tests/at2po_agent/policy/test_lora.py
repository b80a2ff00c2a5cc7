"""Adapters in a tiny model, against the formula and against the merged model."""

from __future__ import annotations

import asyncio
import copy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from at2po_agent.method.objective import ATPO, TokenClip
from at2po_agent.policy import lora
from at2po_agent.policy.base import PolicyError, Request, Sampling
from at2po_agent.policy.engine import EngineConfig
from at2po_agent.policy.loading import load_policy
from at2po_agent.policy.local.policy import LocalPolicy
from at2po_agent.policy.lora import (
    LoraConfig,
    add_lora,
    load_adapter,
    merged_parameters,
    save_adapter,
    save_merged,
    without_lora,
)
from at2po_agent.policy.sglang.admin import SglangAdmin
from at2po_agent.policy.sglang.engine import SGLangEngine
from at2po_agent.policy.sglang.launch import RunningServers
from at2po_agent.policy.sglang.publisher import Publisher
from at2po_agent.policy.sglang.weight_sync import DiskSync, TensorSync
from at2po_agent.update.schedule import UpdateConfig
from at2po_agent.update.updater import Updater
from tests.at2po_agent.update.test_updater import some_batch
from tests.helpers.random_trees import tiny as tiny_for_trees
from tests.helpers.real_tokenizers import byte_bpe
from tests.helpers.sglang_control import Controlled
from tests.helpers.sglang_double import serving
from tests.helpers.sglang_server import MICROWIKI
from tests.helpers.tiny_models import tiny

IDS = torch.tensor([[5, 9, 2, 40, 7, 7, 1, 30]])
SETTINGS = LoraConfig(rank=3, alpha=12.0)


def adapted(model: Any = None, seed: int = 1, **changes: Any) -> Any:
    model = model if model is not None else tiny()
    add_lora(model, replace(SETTINGS, **changes), seed)
    return model


def moved(model: Any) -> Any:
    """As after training: ``B`` is not zero any more."""
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.2)
    return model


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


def trained(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_the_policy_begins_as_its_base_and_every_linear_layer_but_the_output_has_an_adapter() -> None:
    model = adapted()
    assert torch.equal(logits(model), logits(tiny()))
    layers = {name.split(".lora_")[0].rsplit(".", 1)[1] for name in trained(model)}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert all(".lora_A." in name or ".lora_B." in name for name in trained(model))


def test_a_layer_computes_the_formula_and_so_does_its_merged_weight() -> None:
    """``W x + (12 / 3) · B A x``."""
    model = moved(adapted())
    layer = model.model.layers[1].mlp.up_proj
    w, a, b = layer.base_layer.weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(4, 32)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), x @ w.T + 4.0 * (x @ a.T) @ b.T)
        merged = dict(merged_parameters(model))["model.layers.1.mlp.up_proj.weight"]
        torch.testing.assert_close(merged, w + 4.0 * b @ a)


@pytest.mark.parametrize("architecture", ["qwen3", "qwen2", "llama"])  # qwen2 has biases in adapted layers
@pytest.mark.parametrize("tied", [True, False])
def test_the_merged_folder_is_the_adapted_model(architecture: str, tied: bool, tmp_path: Path) -> None:
    model = moved(adapted(tiny(architecture, tie_word_embeddings=tied)))
    save_merged(model, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="sdpa")
    assert plain.state_dict().keys() == tiny(architecture, tie_word_embeddings=tied).state_dict().keys()
    torch.testing.assert_close(logits(plain), logits(model), rtol=1e-4, atol=1e-4)
    assert (logits(model) - logits(tiny(architecture, tie_word_embeddings=tied))).abs().max() > 0.1


def test_adapters_of_a_half_precision_base_are_float32_and_merge_into_its_dtype() -> None:
    model = moved(adapted(tiny().bfloat16()))
    assert {model.get_parameter(name).dtype for name in trained(model)} == {torch.float32}
    assert {tensor.dtype for _, tensor in merged_parameters(model)} == {torch.bfloat16}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_update_moves_the_adapters_and_nothing_else(checkpointing: bool) -> None:
    model = tiny_for_trees().float()
    add_lora(model, SETTINGS, seed=1)
    before = copy.deepcopy(model.state_dict())
    config = UpdateConfig(lr=1e-2, mini_batch=100, gradient_checkpointing=checkpointing)
    updater = Updater(model, ATPO(0.1, 0.1), config)
    batch = some_batch(model)
    for _ in range(2):  # the first moves B only: A's gradient is B times something
        updater.update(batch)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == trained(model)
    assert len(updater.state_dict()["optimizer"]["state"]) == len(changed)


def test_the_reference_of_a_kl_term_is_the_model_without_its_adapters() -> None:
    base = tiny_for_trees().float()
    model = copy.deepcopy(base)
    add_lora(model, SETTINGS, seed=1)
    moved(model)
    batch = some_batch(model)
    found = []
    for reference in (model, base):
        one = copy.deepcopy(model)
        updater = Updater(
            one,
            TokenClip(kl_coef=0.1),
            UpdateConfig(lr=1e-2, mini_batch=100),
            reference=one if reference is model else base,
        )
        found.append((updater.update(batch), one.state_dict()))
    (own, ours), (copied, theirs) = found
    assert own == copied and own["kl_ref"] > 0
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_inside_without_lora_the_model_is_its_base_and_outside_it_trains_on() -> None:
    model = moved(adapted())
    trains, with_adapters = trained(model), logits(model)
    with without_lora(model):
        assert torch.equal(logits(model), logits(tiny()))
    assert torch.equal(logits(model), with_adapters) and trained(model) == trains
    with without_lora(tiny()) as nothing:  # no adapters, nothing to switch off
        assert nothing is None


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # PeftModel asks transformers so
def test_a_saved_adapter_stands_in_its_base_again(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path / "base")
    byte_bpe().save_pretrained(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", attn_implementation="sdpa")
    model = moved(adapted(base))
    save_adapter(model, tmp_path / "adapter")
    sizes = {file.name: file.stat().st_size for file in (tmp_path / "adapter").glob("*.safetensors")}
    assert sizes.keys() == {"adapter_model.safetensors"}
    again, _ = load_policy(tmp_path / "adapter")
    assert torch.equal(logits(again), logits(model)) and trained(again) == trained(model)
    theirs = PeftModel.from_pretrained(tiny(), tmp_path / "adapter")  # PEFT reads it by itself
    torch.testing.assert_close(logits(theirs), logits(model))
    with pytest.raises(PolicyError, match="at2po-agent export"):
        adapted(again)
    with pytest.raises(PolicyError, match=r"other LoRA adapters.*lora_A.weight is \[3, 48\], not \[2, 48\]"):
        load_adapter(adapted(rank=2), tmp_path / "adapter")
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(PolicyError, match=r"base, which is not there: .*base_model_name_or_path"):
        load_policy(tmp_path / "adapter")


def test_the_initial_values_are_those_of_the_seed_and_no_other_random_number_is_used_up() -> None:
    torch.manual_seed(3)
    one = adapted().state_dict()
    state = torch.get_rng_state()
    two, three = adapted().state_dict(), adapted(seed=2).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], three[name]) for name in one)
    tiny()
    assert torch.equal(torch.get_rng_state(), _after_tiny(state))


def _after_tiny(state: torch.Tensor) -> torch.Tensor:
    torch.set_rng_state(state)
    tiny()
    return torch.get_rng_state()


@pytest.mark.parametrize("targets", [["no_proj"], ["lm_head"], ["q_proj", "embed_tokens"]])
def test_targets_that_are_not_layers_of_the_model_are_refused(targets: list[str]) -> None:
    with pytest.raises(PolicyError, match=r"lora\.targets"):
        adapted(targets=targets)


def test_without_peft_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(PolicyError, match=r"pip install 'at2po\[lora\]'"):
        adapted()
    assert lora.base_of(Path()) is None  # folders without adapters do not need it


@pytest.mark.parametrize("way", ["disk", "tensors"])
def test_servers_get_the_merged_weights(way: str, tmp_path: Path) -> None:
    model = moved(adapted())
    sync = DiskSync(tmp_path / "weights") if way == "disk" else TensorSync()
    with serving(Controlled(tiny())) as server:
        sync.take(model, "a-1")
        sync.send(SglangAdmin(server.url))
        if way == "disk":
            got: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "weights" / "a-1")
        else:
            got = server.model
        torch.testing.assert_close(logits(got), logits(model), rtol=1e-4, atol=1e-4)
    sync.close()


@pytest.mark.service
@pytest.mark.parametrize("way", ["disk", "tensors"])
def test_a_real_server_samples_as_the_local_engine_does_with_the_adapters(
    way: str, sglang_url: str, tmp_path: Path
) -> None:
    """Greedy turns after update: the same tokens, and log-probabilities within 1e-4."""
    model, codec = load_policy(MICROWIKI)
    add_lora(model, SETTINGS, seed=1)
    with torch.no_grad():
        for name in trained(model):
            model.get_parameter(name).mul_(0.5).add_(0.003)
    base, _ = load_policy(MICROWIKI)
    asked = [Request(tuple(range(10 + i, 30 + i)), 12, (i,)) for i in range(3)]
    here = LocalPolicy(model, codec)
    sync = DiskSync(tmp_path / "w") if way == "disk" else TensorSync()
    publisher = Publisher(RunningServers([sglang_url]), model, sync, EngineConfig(kind="sglang"))
    engine = SGLangEngine(model, codec, publisher)
    try:
        there = asyncio.run(engine.generate(asked, Sampling(temperature=0.0)))
        engine.publish(base, 1)  # other tests go on with this server
        as_before = asyncio.run(engine.generate(asked, Sampling(temperature=0.0)))
    finally:
        engine.close()
    expected = asyncio.run(here.generate(asked, Sampling(temperature=0.0)))
    here.close()
    assert [one.ids for one in there] == [one.ids for one in expected]
    for one, other in zip(there, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert [one.logprobs for one in as_before] != [one.logprobs for one in there]
