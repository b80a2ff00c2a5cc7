"""Packed gradients on a GPU: those of unrolled paths, through FlexAttention as it is compiled there."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from transformers import PreTrainedModel

from at2po_agent.method.objective import ATPO
from at2po_agent.policy.lora import LoraConfig, add_lora
from at2po_agent.update.forwarding import Forwarding, RunContext
from at2po_agent.update.logprobs import PackedPolicy, unrolled
from at2po_agent.update.packing import collate, pack_tree
from at2po_agent.update.processes import ONE
from at2po_agent.update.schedule import UpdateConfig
from at2po_agent.update.sharding import shared, whole
from at2po_agent.update.tree_attention import planner_of
from at2po_agent.update.updater import Updater
from tests.helpers.random_trees import random_batch, tiny

# Under autocast a norm with float32 weights has no fused kernel, of which torch warns once a process.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")]

CUDA = torch.device("cuda")
# Of the gradient's norm: rounding in float32 and, under autocast, in bfloat16.
TOLERANCE = {"weights": 1e-4, "bfloat16": 3e-2}


def model_of(head: int, key_heads: int) -> PreTrainedModel:
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": key_heads, "head_dim": head}
    return tiny(dtype=torch.float32, **sizes, initializer_range=0.1).to(CUDA)


def gradient(model: PreTrainedModel, loss: Tensor) -> Tensor:
    model.zero_grad()
    torch.autograd.backward(loss)
    return torch.cat([p.grad.flatten().float() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize(("head", "key_heads"), [(64, 2), (64, 4), (128, 1)])
@pytest.mark.parametrize("way", ["plain", "checkpointing", "lora"])
def test_gradients_are_the_unrolled_ones(precision: str, head: int, key_heads: int, way: str) -> None:
    model, trees = model_of(head, key_heads), random_batch()
    if way == "lora":
        add_lora(model, LoraConfig(rank=4, alpha=8.0), seed=0)
        model.to(CUDA)
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
        expected = gradient(model, unrolled(model, [tree for tree, _ in trees], 1.0)[0].sum())
    config = UpdateConfig(precision=precision, attention="flex", gradient_checkpointing=way == "checkpointing")  # type: ignore[arg-type]
    forwarding = Forwarding(model, config, RunContext())
    with forwarding.checkpointing():
        found = gradient(model, forwarding.rows(collate([pack_tree(*tree) for tree in trees]).to(CUDA))[0].sum())
    assert float((found - expected).norm() / expected.norm()) < TOLERANCE[precision]


@pytest.mark.parametrize("precision", TOLERANCE)
def test_gradients_of_a_split_model_are_the_unrolled_ones(precision: str) -> None:
    """FSDP2 with one process, as there is one card: hooks, gathering and summing are those of several."""
    model, trees = model_of(64, 2), random_batch()
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        twin = shared(PackedPolicy(model), ONE, CUDA)
        batch = collate([pack_tree(*tree) for tree in trees]).to(CUDA)
        layout = planner_of(model, UpdateConfig(attention="flex"), CUDA, print)
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
            expected = gradient(model, unrolled(model, [tree for tree, _ in trees], 1.0)[0].sum())
            torch.autograd.backward(twin(batch, 1.0, layout(batch))[0].sum())
        found = torch.cat([whole(p.grad).flatten().float() for p in twin.parameters() if p.grad is not None])
    finally:
        dist.destroy_process_group()
    assert float((found - expected).norm() / expected.norm()) < TOLERANCE[precision]


def test_equal_updates_give_equal_bits() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        weights = []
        for _ in range(2):
            model = model_of(64, 2)
            Updater(model, ATPO(), UpdateConfig(lr=1e-2, attention="flex")).update(random_batch())
            weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        assert torch.equal(*weights)
    finally:
        torch.use_deterministic_algorithms(False)
