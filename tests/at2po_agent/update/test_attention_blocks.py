"""Attention along trees: what a mask over all pairs gives, at the cost of the pairs of the tree."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from at2po_agent.update.attention_blocks import Blocks, plan_blocks
from at2po_agent.update.tree_attention import tree_attention
from tests.helpers.forests import Ints, depth_first, forests


def pairs(layout: Blocks) -> int:
    return sum(group.queries.numel() * group.keys.shape[1] for group in layout.groups)


def plan(positions: Ints, ends: Ints, **options: int) -> Blocks:
    return plan_blocks(positions, ends, torch.float64, torch.device("cpu"), **options)


@settings(deadline=None, max_examples=60)
@given(forests(), st.sampled_from([(2, 1), (2, 2), (4, 2)]), st.integers(1, 40))
def test_it_is_masked_attention_forward_and_backward(parents: list[int], heads: tuple[int, int], longest: int) -> None:
    positions, ends = depth_first(parents)
    n, at = len(parents), torch.arange(len(parents))
    mask = (at <= at[:, None]) & (at[:, None] < torch.from_numpy(ends))
    generator = torch.Generator().manual_seed(n)
    shapes = [(1, count, n, 8) for count in (heads[0], heads[1], heads[1])]
    states = [torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for s in shapes]
    weight = torch.randn(1, n, heads[0], 8, dtype=torch.float64, generator=generator)
    layout = plan(positions, ends, max_queries=longest)  # so that long branches are cut too
    found, _ = tree_attention(SimpleNamespace(), *states, None, scaling=0.3, tree=layout)  # type: ignore[arg-type]
    expected = functional.scaled_dot_product_attention(*states, attn_mask=mask, scale=0.3, enable_gqa=True).transpose(
        1, 2
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    gradients = [torch.autograd.grad((y * weight).sum(), states) for y in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-10)


def test_long_branches_are_not_computed_against_each_other() -> None:
    # a prompt of 100 tokens and 8 branches of 400: 8·400 queries with 500 keys, the prompt by itself
    positions, ends = depth_first(
        [*range(-1, 99), *(p for b in range(8) for p in (99, *range(100 + 400 * b, 499 + 400 * b)))]
    )
    assert pairs(plan(positions, ends)) < 1.1 * (8 * 400 * 500) < 0.2 * len(positions) ** 2


def test_a_small_bushy_tree_is_one_problem() -> None:
    positions, ends = depth_first([-1, 0, 1, 1, 1, 0, 5, 5])
    layout = plan(positions, ends)
    assert [tuple(group.queries.shape) for group in layout.groups] == [(1, 8)]


def test_equal_trees_are_computed_together() -> None:
    one = [-1, *range(30), 10, *range(31, 60)]
    positions, ends = depth_first([p if p < 0 else p + len(one) * t for t in range(50) for p in one])
    assert len(plan(positions, ends).groups) <= 2
