"""FlexAttention along trees, as far as CPUs run it: the forward, its masks and lengths; compiled by dynamo alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from at2po_agent.policy.architecture import Heads
from at2po_agent.policy.base import PolicyError
from at2po_agent.update.attention_blocks import plan_blocks
from at2po_agent.update.attention_flex import FlexPlanner, bucket_of, interval_mask
from at2po_agent.update.logprobs import packed, prepare_model, unrolled
from at2po_agent.update.packing import MicroBatch, collate, pack_tree
from tests.helpers.forests import depth_first, forests
from tests.helpers.random_trees import random_batch, tiny

# One for all tests, as in a process that trains: without its own kernels, but with dynamo's guards.
KERNEL = torch.compile(flex_attention, backend="eager", dynamic=False, fullgraph=True)


def batch_of(parents: list[int]) -> MicroBatch:
    positions, ends = (torch.from_numpy(states) for states in depth_first(parents))
    empty: dict[str, Any] = dict.fromkeys(
        ("predictors", "targets", "rows", "sequence_ids", "turn_ids", "advantage", "logp_old"), torch.empty(0)
    )
    return MicroBatch(ids=positions, positions=positions, ends=ends, **empty)


@settings(deadline=None, max_examples=60)
@given(forests(), st.sampled_from([4, 8, 16]))
def test_the_block_mask_from_intervals_is_the_evaluated_one(parents: list[int], block: int) -> None:
    ends = torch.from_numpy(depth_first(parents)[1])
    length = -(-len(ends) // block) * block
    ends = torch.cat([ends, torch.arange(len(ends) + 1, length + 1)])

    def sees(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return (key <= query) & (query < ends[key])

    expected = create_block_mask(sees, None, None, length, length, device="cpu", BLOCK_SIZE=block)
    found = interval_mask(ends, block)
    for part in ("kv", "full_kv", "q", "full_q"):
        counts, lists = (getattr(found, f"{part}_{what}")[0, 0] for what in ("num_blocks", "indices"))
        theirs, listed = (getattr(expected, f"{part}_{what}")[0, 0] for what in ("num_blocks", "indices"))
        assert counts.tolist() == theirs.tolist()
        assert [row[:n].tolist() for row, n in zip(lists, counts, strict=True)] == [
            row[:n].tolist() for row, n in zip(listed, theirs, strict=True)
        ]


@settings(deadline=None, max_examples=25)
@given(forests(), st.sampled_from([(2, 1), (2, 2), (4, 2)]))
def test_it_is_what_the_blocks_compute(parents: list[int], heads: tuple[int, int]) -> None:
    batch = batch_of(parents)
    generator = torch.Generator().manual_seed(len(parents))
    states = [
        torch.randn(1, len(parents), n, 8, dtype=torch.float64, generator=generator).transpose(1, 2)
        for n in (heads[0], heads[1], heads[1])
    ]
    with torch.no_grad():
        layout = FlexPlanner(Heads(*heads, 8), torch.float64, 128, lambda text: None, KERNEL)(batch)
        found = layout.attend(*states, scaling=0.3)
    expected = plan_blocks(batch.positions.numpy(), batch.ends.numpy(), torch.float64, torch.device("cpu"))
    torch.testing.assert_close(found, expected.attend(*states, scaling=0.3), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("family", ["qwen3", "qwen2", "llama"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_model_gives_the_unrolled_logits(family: str, checkpointing: bool) -> None:
    model, trees = tiny(family), random_batch()
    batch = collate([pack_tree(*tree) for tree in trees])
    with torch.no_grad():
        expected, entropy = unrolled(model, [tree for tree, _ in trees], 0.7)
        prepare_model(model)
        plan = FlexPlanner(Heads.of(model.config), model.dtype, 64, lambda text: None, KERNEL)
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
            model.train()
        found, found_entropy = packed(model, batch, 0.7, plan(batch))
    torch.testing.assert_close(found[batch.rows], expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found_entropy[batch.rows], entropy, rtol=1e-9, atol=1e-9)


def test_lengths_fall_into_few_buckets() -> None:
    assert [bucket_of(n, 8192) for n in (1, 5000, 8192, 8193, 30000)] == [8192, 8192, 8192, 16384, 32768]
    assert bucket_of(1, 1000) == 1024


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # of the tiny model's norms
@pytest.mark.parametrize("half", [False, True])
def test_a_run_compiles_once_for_a_bucket_and_says_so(half: bool) -> None:
    model = tiny(dtype=torch.float32, head_dim=16)
    prepare_model(model)
    torch.compiler.reset()  # the limit of graphs is that of the process
    counter, notes = CompileCounter(), list[str]()
    kernel = torch.compile(flex_attention, backend=counter, dynamic=False, fullgraph=True)
    plan = FlexPlanner(Heads.of(model.config), model.dtype, 500, notes.append, kernel)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        for seed in range(4):
            batch = collate([pack_tree(*tree) for tree in random_batch(seed)])
            packed(model, batch, 1.0, plan(batch))
    assert counter.frame_count == 1
    assert len(notes) == 1 and notes[0].startswith("compiled attention along trees for up to 512 tokens in ")


def test_a_kernel_that_cannot_be_compiled_is_one_line() -> None:
    def kernel(*states: Any, **options: Any) -> Any:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable")

    planner = FlexPlanner(Heads(2, 1, 16), torch.float32, 256, lambda line: None, kernel)
    with pytest.raises(
        PolicyError, match=r"cannot be compiled here .*C compiler.*: set update\.attention=blocks"
    ) as told:
        planner(batch_of([-1, 0]))
    assert "\n" not in str(told.value)
