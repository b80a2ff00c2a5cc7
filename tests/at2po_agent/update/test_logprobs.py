"""Packed log-probabilities against the plain model on every path by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from at2po_agent.method.tree import TurnTree
from at2po_agent.policy.base import PolicyError
from at2po_agent.update import logprobs
from at2po_agent.update.packing import collate, pack_tree
from tests.helpers.random_trees import VOCAB, credited, random_tree, tiny


def packed_rows(model: PreTrainedModel, trees: list[TurnTree], temperature: float) -> tuple[Tensor, Tensor]:
    """All trees in one micro-batch."""
    packed = [pack_tree(tree, [[0.0] * len(path) for _, path in tree.trajectories()]) for tree in trees]
    batch = collate(packed)
    logprobs.prepare_model(model)
    logp, entropy = logprobs.packed(model, batch, temperature)
    return logp[batch.rows], entropy[batch.rows]


def by_hand(model: PreTrainedModel, tree: TurnTree, temperature: float) -> list[tuple[float, float]]:
    """One path at a time, one generated token at a time, straight from the definition."""
    found = []
    for leaf, path in tree.trajectories():
        ids = tree.prompt_ids(tree[leaf].parent) + tree[leaf].action
        with torch.no_grad():
            p = torch.softmax(model(torch.tensor([ids])).logits[0].double() / temperature, -1)
        for index in path:
            start = len(tree.prompt_ids(tree[index].parent))
            for t in range(start, start + len(tree[index].action)):
                found.append((float(p[t - 1, ids[t]].log()), float(-(p[t - 1] * p[t - 1].log()).sum())))
    return found


@pytest.mark.parametrize("family", ["qwen3", "qwen2", "llama"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_packed_and_unrolled_are_the_plain_model(
    family: str, dtype: torch.dtype, tolerance: float, temperature: float
) -> None:
    model = tiny(family, dtype)
    rng = np.random.default_rng(1)
    trees = [random_tree(rng, chains, branches) for chains, branches in ((4, 4), (1, 0), (2, 1), (8, 0))]
    expected = torch.tensor([row for tree in trees for row in by_hand(model, tree, temperature)], dtype=torch.float64)
    for logp, entropy in (packed_rows(model, trees, temperature), logprobs.unrolled(model, trees, temperature)):
        torch.testing.assert_close(logp.double(), expected[:, 0], rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(entropy.double(), expected[:, 1], rtol=tolerance, atol=tolerance)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(0, 5))
def test_gradients_of_any_tree_are_those_of_its_paths(seed: int, chains: int, branches: int) -> None:
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, chains, branches, vocab=3)  # three ids: many turns begin alike or repeat
    model = tiny(vocab_size=3)
    weight = torch.from_numpy(rng.normal(size=pack_tree(*credited(rng, tree)).n_tokens))
    gradients = []
    for logp, _ in (packed_rows(model, [tree], 1.0), logprobs.unrolled(model, [tree], 1.0)):
        model.zero_grad()
        (logp * weight).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-10)


def test_logits_in_blocks_change_nothing_and_stay_bounded() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(50, 16, dtype=torch.float64, requires_grad=True)
    head = torch.nn.Linear(16, VOCAB, bias=False, dtype=torch.float64)
    targets = torch.randint(0, VOCAB, (50,))
    seen: list[int] = []
    head.register_forward_hook(lambda module, given, logits: seen.append(logits.numel()))
    results = []
    for most in (10**6, 3 * VOCAB):
        hidden.grad = None
        logp, entropy = logprobs.token_logprobs(head, hidden, targets, 0.7, max_logits=most)
        logp.square().sum().backward()
        results.append((logp.detach(), entropy, hidden.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)
    assert seen[0] == 50 * VOCAB and max(seen[1:]) == 3 * VOCAB


def test_eager_attention_is_refused() -> None:
    model = tiny(attn_implementation="eager")
    with pytest.raises(PolicyError, match="attn_implementation='sdpa', not 'eager'"):
        logprobs.prepare_model(model)


def test_sliding_windows_and_dropout_are_refused() -> None:
    with pytest.raises(PolicyError, match="without full attention"):
        logprobs.prepare_model(tiny("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=0))
    model = tiny(attention_dropout=0.1)
    logprobs.prepare_model(model)
    with pytest.raises(PolicyError, match=r"model.eval\(\)"):
        logprobs.prepare_model(model.train())


def test_a_model_that_caps_its_logits_is_refused() -> None:
    model = tiny("llama")
    plain = model.forward

    def capped(*args: object, **kwargs: object) -> object:
        found = plain(*args, **kwargs)
        found.logits = torch.tanh(found.logits)
        return found

    model.forward = capped  # type: ignore[method-assign]
    with pytest.raises(PolicyError, match="scales or caps"):
        logprobs.prepare_model(model)
