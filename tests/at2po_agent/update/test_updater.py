"""The optimiser step against plain unrolled training, in float64."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from at2po_agent.method.objective import AEPO, ATPO, GSPO, LossInputs, Objective, TokenClip
from at2po_agent.method.tree import ROOT
from at2po_agent.policy.base import PolicyError
from at2po_agent.update import logprobs
from at2po_agent.update.forwarding import RunContext
from at2po_agent.update.packing import Credited
from at2po_agent.update.schedule import UpdateConfig
from at2po_agent.update.updater import Updater
from tests.helpers.random_trees import credited, random_tree, tiny

OBJECTIVES: dict[str, Objective] = {
    "atpo": ATPO(0.1, 0.1),
    "gspo": GSPO(0.1, 0.1),
    "grpo": TokenClip(dual_clip=1.2),
    "grpo paper": TokenClip(dual_clip=None, aggregation="seq_mean_token_mean"),
    "dapo": TokenClip(0.2, 0.28),
    "aepo": AEPO(),
    "kl": TokenClip(kl_coef=0.1),
    "atpo kl": ATPO(0.1, 0.1, kl_coef=0.1),
}
LOOSE = UpdateConfig(lr=1e-3, grad_clip=0.0, mini_batch=100, max_tokens=60)


def off_policy(model: PreTrainedModel, batch: Sequence[Credited], noise: float, temperature: float = 1.0) -> None:
    """Pretend the trees were sampled by a policy near ``model``."""
    rng = np.random.default_rng(5)
    for tree, _ in batch:
        with torch.no_grad():
            rows = iter(logprobs.unrolled(model, [tree], temperature)[0].tolist())
        for _, path in tree.trajectories():
            for index in path:
                tree[index].logp = tuple(next(rows) for _ in tree[index].action)
        for node in tree.nodes:
            node.logp = tuple(x + noise * rng.normal() for x in node.logp)


def some_batch(model: PreTrainedModel, noise: float = 0.2, seed: int = 3, trees: int = 4) -> list[Credited]:
    rng = np.random.default_rng(seed)
    batch = [credited(rng, random_tree(rng, 3, 3, vocab=5)) for _ in range(trees)]
    off_policy(model, batch, noise)
    return batch


def unrolled_loss(
    model: PreTrainedModel, objective: Objective, batch: Sequence[Credited], reference: PreTrainedModel | None = None
) -> Tensor:
    """The loss of a mini-batch with every path forwarded on its own, rows laid out by hand."""
    trees = [tree for tree, _ in batch]
    advantage, logp_old, sequences, turns = [], [], [], []
    for tree, advantages in batch:
        for (_, path), values in zip(tree.trajectories(), advantages, strict=True):
            for turn, (index, value) in enumerate(zip(path, values, strict=True)):
                logp_old += tree[index].logp
                advantage += [value] * len(tree[index].action)
                sequences += [(sequences[-1] + (turn == 0) if sequences else 0)] * len(tree[index].action)
                turns += [turns[-1] + 1 if turns else 0] * len(tree[index].action)
    logp, entropy = logprobs.unrolled(model, trees, 1.0)
    with torch.no_grad():
        logp_ref = logprobs.unrolled(reference, trees, 1.0)[0] if reference is not None else None
    return objective(
        LossInputs(
            logp=logp,
            logp_old=torch.tensor(logp_old, dtype=torch.float64),
            advantage=torch.tensor(advantage, dtype=torch.float64),
            sequence_ids=torch.tensor(sequences),
            turn_ids=torch.tensor(turns),
            n_sequences=sum(len(tree.leaves) for tree in trees),
            n_tokens=len(turns),
            entropy=entropy,
            entropy_mean=float(entropy.mean()),
            entropy_std=float(entropy.std()),
            logp_ref=logp_ref,
        )
    ).loss


def flat(model: PreTrainedModel) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def step_gradient(
    model: PreTrainedModel,
    objective: Objective,
    batch: Sequence[Credited],
    config: UpdateConfig = LOOSE,
    **options: Any,
) -> tuple[Tensor, dict[str, float]]:
    """What the optimiser saw in the one step of ``update``, and the metrics; ``model`` itself is left alone."""
    model = copy.deepcopy(model)
    updater = Updater(model, objective, config, **options)
    seen: list[Tensor] = []
    updater.optimizer.register_step_pre_hook(lambda *_: seen.append(flat(model)))
    metrics = updater.update(batch)
    (gradient,) = seen
    return gradient, metrics


def assert_same(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    assert float((a - b).norm()) <= tolerance * float(b.norm()), float((a - b).norm() / b.norm())


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("family", ["qwen3", "qwen2", "llama"])
def test_packed_loss_and_gradient_are_the_unrolled_ones(name: str, family: str) -> None:
    model, objective = tiny(family), OBJECTIVES[name]
    reference = tiny(family, seed=1) if objective.kl_coef else None
    batch = some_batch(model)
    gradient, metrics = step_gradient(model, objective, batch, reference=reference)
    loss = unrolled_loss(model, objective, batch, reference)
    loss.backward()
    assert 0.1 < metrics["clip_fraction"] < 0.9  # both branches of the clip are taken
    assert metrics["loss"] == pytest.approx(float(loss.detach()), rel=1e-10)
    assert metrics["grad_norm"] == pytest.approx(float(gradient.norm()), rel=1e-10)
    assert_same(gradient, flat(model))


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000), st.sampled_from(["atpo", "gspo", "grpo", "aepo"]), st.integers(1, 200))
def test_any_trees_and_any_token_budget_give_the_unrolled_gradient(seed: int, name: str, max_tokens: int) -> None:
    model = tiny()
    batch = some_batch(model, seed=seed, trees=3)
    config = UpdateConfig(lr=0.0, grad_clip=0.0, max_tokens=max_tokens)
    gradient, _ = step_gradient(model, OBJECTIVES[name], batch, config)
    unrolled_loss(model, OBJECTIVES[name], batch).backward()
    assert_same(gradient, flat(model))


def test_float32_gradients_agree_to_1e5() -> None:
    model = tiny(dtype=torch.float32)
    batch = some_batch(model)
    gradient, _ = step_gradient(model, ATPO(0.1, 0.1), batch)
    model = model.double()
    unrolled_loss(model, ATPO(0.1, 0.1), batch).backward()
    assert_same(gradient.double(), flat(model), 1e-5)


def test_one_shared_token_can_be_clipped_for_one_leaf_and_not_for_the_other() -> None:
    """The reason why the loss sees unrolled rows: min is not linear in the advantage."""
    model = tiny()
    rng = np.random.default_rng(0)
    tree = random_tree(rng, chains=1, branches=0)
    while len(tree.path(tree.leaves[0])) < 2:
        tree = random_tree(rng, chains=1, branches=0)
    turn = tree.path(tree.leaves[0])[0]
    twin = copy.copy(tree[tree[turn].children[0]])
    twin.leaf, twin.children, twin.observation = True, [], ()
    tree.add(twin)
    batch = [Credited(tree, [[a] * len(path) for a, (_, path) in zip((1.0, -1.0), tree.trajectories(), strict=True)])]
    off_policy(model, batch, 0.0)
    tree[turn].logp = tuple(x - 1.0 for x in tree[turn].logp)  # ratio e: clipped where A > 0 only
    for name in ("atpo", "grpo paper"):
        gradient, _ = step_gradient(model, OBJECTIVES[name], batch)
        model.zero_grad()
        unrolled_loss(model, OBJECTIVES[name], batch).backward()
        assert_same(gradient, flat(model))
        assert float(gradient.norm()) > 0.01  # the advantages cancel on the shared turn, what the clip leaves does not


def test_atpo_weighs_a_turn_by_the_leaves_below_it() -> None:
    """``w_t = Σ_{leaf under n} 1/(N·|y_leaf|)``, on-policy, with one advantage per node."""
    model = tiny()
    rng = np.random.default_rng(7)
    tree = random_tree(rng, chains=3, branches=4)
    value = rng.normal(size=len(tree))
    batch = [Credited(tree, [[float(value[i]) for i in path] for _, path in tree.trajectories()])]
    off_policy(model, batch, 0.0)
    gradient, _ = step_gradient(model, ATPO(), batch)
    length = {leaf: sum(len(tree[i].action) for i in path) for leaf, path in tree.trajectories()}
    for index in range(ROOT + 1, len(tree)):
        weight = sum(1 / (len(length) * length[leaf]) for leaf, path in tree.trajectories() if index in path)
        ids = tree.prompt_ids(tree[index].parent) + tree[index].action
        log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        for t in range(len(ids) - len(tree[index].action), len(ids)):
            torch.autograd.backward(-weight * value[index] * log_p[t - 1, ids[t]], retain_graph=True)
    assert_same(gradient, flat(model))


@pytest.mark.parametrize("name", ["atpo", "gspo", "grpo", "grpo paper", "dapo", "aepo"])
def test_on_policy_every_gradient_is_the_policy_gradient(name: str) -> None:
    model, objective = tiny(), OBJECTIVES[name]
    batch = some_batch(model, noise=0.0)
    gradient, metrics = step_gradient(model, objective, batch)
    trees = [tree for tree, _ in batch]
    logp, entropy = logprobs.unrolled(model, trees, 1.0)
    lengths = [sum(len(tree[i].action) for i in path) for tree in trees for _, path in tree.trajectories()]
    shares = [1 / sum(lengths) if name in ("grpo", "dapo", "aepo") else 1 / (len(lengths) * n) for n in lengths]
    weight = torch.tensor([share for share, n in zip(shares, lengths, strict=True) for _ in range(n)], dtype=logp.dtype)
    advantage = torch.tensor(
        [
            a
            for tree, advantages in batch
            for (_, path), values in zip(tree.trajectories(), advantages, strict=True)
            for i, a in zip(path, values, strict=True)
            for _ in tree[i].action
        ],
        dtype=logp.dtype,
    )
    if name == "aepo":
        advantage *= 1 + 0.2 * (entropy - entropy.mean()) / entropy.std()
    torch.autograd.backward(-(weight * advantage * logp).sum())
    assert_same(gradient, flat(model))
    assert abs(metrics["ppo_kl"]) < 1e-12


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_recomputed_log_probabilities_replace_the_rollouts(temperature: float) -> None:
    model = tiny()
    batch = some_batch(model)
    off_policy(model, batch, 0.0, temperature)
    expected, _ = step_gradient(model, ATPO(), batch, run=RunContext(temperature=temperature))
    for tree, _ in batch:
        for node in tree.nodes:
            node.logp = tuple(-9.0 for _ in node.logp)  # an engine that reports nonsense
    config = UpdateConfig(grad_clip=0.0, mini_batch=100, max_tokens=60, old_logprobs="recompute")
    gradient, metrics = step_gradient(model, ATPO(), batch, config, run=RunContext(temperature=temperature))
    assert_same(gradient, expected)
    assert abs(metrics["ppo_kl"]) < 1e-12


def test_recomputing_happens_before_the_first_step() -> None:
    model = tiny()
    batch = some_batch(model, noise=0.0)
    kls = []
    for old in ("rollout", "recompute"):
        config = UpdateConfig(lr=1e-2, mini_batch=2, epochs=2, old_logprobs=old)
        kls.append(Updater(copy.deepcopy(model), ATPO(), config).update(batch)["ppo_kl"])
    assert kls[0] == pytest.approx(kls[1], rel=1e-9) and abs(kls[0]) > 1e-6


def test_a_turn_that_straddles_an_update_needs_recomputed_log_probabilities() -> None:
    model = tiny()
    batch = some_batch(model)
    batch[0].tree.nodes[1].straddles = True
    with pytest.raises(PolicyError, match=r"turn 1.*update.old_logprobs=recompute"):
        Updater(model, ATPO(), UpdateConfig()).update(batch)
    assert Updater(model, ATPO(), UpdateConfig(old_logprobs="recompute")).update(batch)["steps"] == 1


def without_signal(model: PreTrainedModel, seed: int) -> Credited:
    tree = some_batch(model, seed=seed, trees=1)[0].tree
    return Credited(tree, [[0.0] * len(path) for _, path in tree.trajectories()])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_trees_without_signal_count_in_the_means_and_cost_no_forward(name: str) -> None:
    model, objective = tiny(), OBJECTIVES[name]
    reference = tiny(seed=1) if objective.kl_coef else None
    alone = some_batch(model, trees=2)
    batch = [alone[0], without_signal(model, 8), alone[1]]
    gradient, metrics = step_gradient(model, objective, batch, reference=reference)
    unrolled_loss(model, objective, batch, reference).backward()
    assert_same(gradient, flat(model))
    assert metrics["trees_without_signal"] == 1
    forwarded = step_gradient(model, objective, alone, reference=reference)[1]["tokens_forwarded"]
    assert (metrics["tokens_forwarded"] > forwarded) == bool(objective.kl_coef)


def test_a_mini_batch_without_any_signal_is_a_step_with_a_zero_gradient() -> None:
    """Momentum and weight decay go on, as they do where such trees are forwarded."""
    model = tiny()
    updater = Updater(model, ATPO(0.1, 0.1), LOOSE)
    updater.update(some_batch(model))
    before = [p.detach().clone() for p in model.parameters()]
    metrics = updater.update([without_signal(model, 8)])
    assert (metrics["steps"], metrics["grad_norm"], metrics["tokens_forwarded"]) == (1, 0, 0)
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_gradient_that_is_not_finite_changes_nothing_and_is_reported() -> None:
    model = tiny()
    batch = some_batch(model, trees=3)
    tree, advantages = batch[1]
    poisoned = [batch[0], Credited(tree, [[math.nan for _ in values] for values in advantages]), batch[2]]
    config = UpdateConfig(lr=1e-3, mini_batch=1)
    twin = copy.deepcopy(model)
    metrics = Updater(model, ATPO(0.1, 0.1), config).update(poisoned)
    Updater(twin, ATPO(0.1, 0.1), config).update([batch[0], batch[2]])
    assert (metrics["steps"], metrics["skipped_steps"]) == (2, 1)
    assert all(math.isfinite(value) for value in metrics.values())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_each_mini_batch_is_one_step_in_order_and_epochs_repeat() -> None:
    model = tiny()
    batch = some_batch(model, trees=5)
    twin = copy.deepcopy(model)
    metrics = Updater(model, ATPO(0.1, 0.1), UpdateConfig(lr=1e-3, mini_batch=2, epochs=2)).update(batch)
    assert metrics["steps"] == 6
    one = Updater(twin, ATPO(0.1, 0.1), UpdateConfig(lr=1e-3, mini_batch=2))
    for _ in range(2):
        for part in (batch[:2], batch[2:4], batch[4:]):
            one.update(part)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_the_step_is_adamw_on_the_clipped_gradient() -> None:
    model = tiny()
    batch = some_batch(model)
    config = UpdateConfig(lr=1e-2, weight_decay=0.1, grad_clip=0.5)
    gradient, metrics = step_gradient(model, ATPO(0.1, 0.1), batch, config)
    assert metrics["grad_norm"] > 0.5 and float(gradient.norm()) == pytest.approx(0.5, rel=1e-4)
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    Updater(model, ATPO(0.1, 0.1), config).update(batch)
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    expected = before * (1 - 1e-2 * 0.1) - 1e-2 * gradient / (gradient.abs() + 1e-8)  # AdamW's first step
    torch.testing.assert_close(after, expected, rtol=1e-6, atol=1e-9)


def test_a_run_that_was_saved_goes_on_bit_for_bit() -> None:
    model = tiny(dtype=torch.float32)
    first, second = some_batch(model, seed=1), some_batch(model, seed=2)
    config = UpdateConfig(lr=1e-2, schedule="linear", warmup_steps=1, mini_batch=2)
    updater = Updater(model, ATPO(0.1, 0.1), config, RunContext(total_steps=6))
    updater.update(first)
    again, saved = copy.deepcopy(model), copy.deepcopy(updater.state_dict())
    metrics = updater.update(second)
    resumed = Updater(again, ATPO(0.1, 0.1), config, RunContext(total_steps=6))
    resumed.load_state_dict(saved)
    assert resumed.update(second) == metrics
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert metrics["lr"] == pytest.approx((0.008 + 0.006) / 2) and updater.steps == 4


def test_two_threads_give_the_same_bits_every_time() -> None:
    torch.manual_seed(0)
    model = tiny(dtype=torch.float32, hidden_size=64, head_dim=16)
    rng = np.random.default_rng(0)
    batch = [credited(rng, random_tree(rng, 16, 24)) for _ in range(4)]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = [step_gradient(model, AEPO(), batch, UpdateConfig())[0] for _ in range(3)]
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_gradient_checkpointing_keeps_less_and_changes_no_number() -> None:
    model = tiny()
    batch = some_batch(model)
    model.train()
    found = []
    kept = [0, 0]  # bytes
    for checkpointing in (False, True):

        def keep(tensor: Tensor, way: int = int(checkpointing)) -> Tensor:
            kept[way] += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            found.append(step_gradient(model, ATPO(), batch, replace(LOOSE, gradient_checkpointing=checkpointing)))
    assert kept[1] < kept[0] / 2
    assert_same(found[1][0], found[0][0], 1e-13)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-12)
    updater = Updater(model.eval(), ATPO(), replace(LOOSE, gradient_checkpointing=True))
    updater.update(batch)
    assert not model.training and not model.is_activation_checkpointing  # the engine samples from the same module


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # torch says so of every norm with float32 weights
def test_bfloat16_is_the_precision_of_the_forward_alone() -> None:
    model = tiny(dtype=torch.float32, hidden_size=64, head_dim=16)
    batch = some_batch(model)
    exact, half = (
        step_gradient(model, ATPO(0.5, 0.5), batch, replace(LOOSE, precision=precision))[0]
        for precision in ("weights", "bfloat16")
    )
    assert half.dtype == torch.float32
    assert 1e-5 < float((half - exact).norm() / exact.norm()) < 0.3


def test_what_cannot_be_trained_is_refused_at_once() -> None:
    with pytest.raises(PolicyError, match="'sdpa', not 'eager'"):
        Updater(tiny(attn_implementation="eager"), ATPO(), UpdateConfig())
    with pytest.raises(ValueError, match="needs a reference model"):
        Updater(tiny(), ATPO(kl_coef=0.1), UpdateConfig())
    with pytest.raises(ValueError, match="temperature above 0"):
        Updater(tiny(), ATPO(), UpdateConfig(), RunContext(temperature=0.0))
    with pytest.raises(ValueError, match="no trees"):
        Updater(tiny(), ATPO(), UpdateConfig()).update([])
