"""All six algorithms by name: the reductions that must hold, with each one's own credit, shaping and bounds."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from at2po_agent import logprobs
from at2po_agent.algorithms import ALGORITHMS, Algorithm, build
from at2po_agent.packing import Credited
from tests.at2po_agent.random_trees import random_tree, tiny
from tests.at2po_agent.test_update import assert_same, flat, off_policy, step_gradient, unrolled_loss

NOISE = {"at2po": 5e-3, "gspo": 2e-3}  # nats per token, near each one's bounds; 0.2 for the others


def algorithm_of(name: str) -> Algorithm:
    return build(name).opened(vocab_size=13, max_response_tokens=16)


def a_batch(model: PreTrainedModel, algorithm: Algorithm, noise: float, trees: int = 4) -> list[Credited]:
    """Random trees with random rewards, credited as the algorithm does, sampled by a policy near ``model``."""
    rng = np.random.default_rng(11)
    batch = []
    for _ in range(trees):
        tree = random_tree(rng, 3, 3, vocab=5)
        for leaf in tree.leaves:
            tree[leaf].reward = float(rng.integers(-1, 2))
        batch.append(Credited(tree, algorithm.credit(tree, algorithm.shaping(tree))))
    off_policy(model, batch, noise)
    return batch


@pytest.mark.parametrize("name", ALGORITHMS)
def test_packed_loss_and_gradient_are_the_unrolled_ones_off_policy(name: str) -> None:
    model, algorithm = tiny(), algorithm_of(name)
    reference = tiny(seed=1) if algorithm.objective.kl_coef else None
    batch = a_batch(model, algorithm, NOISE.get(name, 0.2))
    gradient, metrics = step_gradient(model, algorithm.objective, batch, reference=reference)
    loss = unrolled_loss(model, algorithm.objective, batch, reference)
    loss.backward()
    assert 0.03 < metrics["clip_fraction"] < 0.97  # both branches of the clip are taken
    assert metrics["loss"] == pytest.approx(float(loss.detach()), rel=1e-10)
    assert_same(gradient, flat(model), 1e-10)


@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - {"at2po"}))
def test_the_rivals_pull_a_shared_token_both_ways(name: str) -> None:
    """Why the loss is not deduplicated: the batch above has turns whose advantages differ in sign from leaf to leaf."""
    signs = defaultdict(set)
    for number, (tree, advantages) in enumerate(a_batch(tiny(), algorithm_of(name), 0.0)):
        for (_, path), values in zip(tree.trajectories(), advantages, strict=True):
            for index, value in zip(path, values, strict=True):
                signs[number, index].add(np.sign(value))
    assert any({-1.0, 1.0} <= found for found in signs.values())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_on_policy_every_gradient_is_the_policy_gradient(name: str) -> None:
    """``−Σ w_t A_t ∇logp_t``, with the start itself as reference, so that the KL is 0."""
    model, algorithm = tiny(), algorithm_of(name)
    batch = a_batch(model, algorithm, 0.0)
    reference = tiny() if algorithm.objective.kl_coef else None
    gradient, metrics = step_gradient(model, algorithm.objective, batch, reference=reference)
    logp, entropy = logprobs.unrolled(model, [tree for tree, _ in batch], 1.0)
    weight, advantage = [], []
    for tree, advantages in batch:
        for (_, path), values in zip(tree.trajectories(), advantages, strict=True):
            lengths = [len(tree[index].action) for index in path]
            weight += [1 / sum(lengths)] * sum(lengths)
            advantage += [value for value, n in zip(values, lengths, strict=True) for _ in range(n)]
    by_sequence = torch.tensor(weight, dtype=torch.float64)
    w = by_sequence / by_sequence.sum() if name in ("at2po", "gspo") else 1 / len(weight)
    a = torch.tensor(advantage, dtype=torch.float64)
    if name == "aepo":
        a = a * (1 + 0.2 * (entropy.detach() - entropy.detach().mean()) / entropy.detach().std())
    torch.autograd.backward(-(w * a * logp).sum())
    assert_same(gradient, flat(model))
    assert abs(metrics["ppo_kl"]) < 1e-12
