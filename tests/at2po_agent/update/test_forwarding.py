"""Forwards of packed trees in micro-batches, by one process; by two they are in test_distributed.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.lora import LoraConfig, add_lora
from at2po_agent.update.forwarding import Forwarding, RunContext
from at2po_agent.update.logprobs import unrolled
from at2po_agent.update.packing import pack_tree
from at2po_agent.update.schedule import UpdateConfig
from tests.helpers.random_trees import credited, random_tree, tiny

SMALL = UpdateConfig(max_tokens=40)
rng = np.random.default_rng(3)
TREES = [random_tree(rng, 3, 3) for _ in range(5)]
PACKED = [pack_tree(*credited(rng, tree)) for tree in TREES]


def forwarding(model: Any, config: UpdateConfig = SMALL, temperature: float = 1.0) -> Forwarding:
    return Forwarding(model, config, RunContext(temperature))


def expected(model: Any, temperature: float = 1.0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Tree by tree, every path forwarded on its own."""
    with torch.no_grad():
        return [unrolled(model, [tree], temperature) for tree in TREES]


def test_every_tree_is_in_one_micro_batch_within_the_budget() -> None:
    found = list(forwarding(tiny()).batches(PACKED))
    assert sorted(i for _, members in found for i in members) == [0, 1, 2, 3, 4] and len(found) > 1
    for batch, members in found:
        tokens = sum(len(PACKED[i].ids) for i in members)
        assert tokens <= 40 or len(members) == 1
        assert len(batch.rows) == sum(PACKED[i].n_tokens for i in members)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_rows_of_all_trees_come_in_the_order_of_the_trees(temperature: float) -> None:
    model = tiny()
    found = forwarding(model, temperature=temperature).without_grad(PACKED)
    for (logp, entropy), (their_logp, their_entropy) in zip(found, expected(model, temperature), strict=True):
        assert logp == pytest.approx(their_logp.numpy(), abs=1e-10)
        assert entropy == pytest.approx(their_entropy.numpy(), abs=1e-10)
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_the_reference_of_adapters_is_the_model_without_them() -> None:
    model = tiny().float()
    add_lora(model, LoraConfig(rank=2, alpha=4.0), seed=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.3)
    one = forwarding(model, UpdateConfig())
    ((batch, members),) = one.batches(PACKED)
    plain = torch.cat([logp for logp, _ in (expected(tiny().float())[i] for i in members)])
    torch.testing.assert_close(one.base_logp(batch), plain, rtol=1e-4, atol=1e-4)
    assert float((one.rows(batch)[0].detach() - plain).abs().max()) > 0.01
    assert {id(p) for p in one.parameters} == {id(p) for p in model.parameters() if p.requires_grad}


def test_layers_are_computed_again_only_inside_and_where_it_is_asked_for() -> None:
    model = tiny()
    with forwarding(model).checkpointing():
        assert not model.is_activation_checkpointing and not model.training
    with (
        pytest.raises(KeyError),
        forwarding(model, replace(SMALL, gradient_checkpointing=True)).checkpointing(),
    ):
        assert model.is_activation_checkpointing and model.training
        raise KeyError
    assert not model.is_activation_checkpointing and not model.training
    dropping = tiny(attention_dropout=0.1)
    with (
        pytest.raises(PolicyError, match="dropout"),
        forwarding(dropping, replace(SMALL, gradient_checkpointing=True)).checkpointing(),
    ):
        pass


def test_one_process_trains_the_model_that_was_given() -> None:
    model = tiny()
    one = forwarding(model)
    assert {id(parameter) for parameter in one.parameters} == {id(parameter) for parameter in model.parameters()}
    before = [parameter.detach().clone() for parameter in model.parameters()]
    one.to_whole()
    one.from_whole()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
