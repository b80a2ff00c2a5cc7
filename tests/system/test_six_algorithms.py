"""All six algorithms by name: the reductions that must hold, with each one's own credit, shaping and bounds.

And each learns MicroWiki for twenty steps, about a minute, with every number that it reports sane.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import PreTrainedModel

from at2po_agent.method.algorithms import ALGORITHMS, Algorithm, build
from at2po_agent.training.config import load_config
from at2po_agent.training.display import Display
from at2po_agent.training.run_dir import RunDirectory
from at2po_agent.training.trainer import train
from at2po_agent.update import logprobs
from at2po_agent.update.packing import Credited
from tests.at2po_agent.method.test_objective import GOLDEN_CASES, golden_rows, loss_and_gradient
from tests.at2po_agent.update.test_updater import assert_same, flat, off_policy, step_gradient, unrolled_loss
from tests.helpers.random_trees import random_tree, tiny

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


GOLDEN_NAMES = {"at2po": "atpo", "grpo": "grpo_token_mean", "tree_grpo": "grpo_token_mean"}


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("case", GOLDEN_CASES, ids=lambda case: case["case"])
def test_each_objective_by_name_is_the_official_one(case: dict[str, Any], name: str) -> None:
    """Tree-GRPO's code has GRPO's token mean without the dual clip, which is idle in one case, plus a KL."""
    objective, expected = build(name).objective, case["expected"][GOLDEN_NAMES.get(name, name)]
    if name == "tree_grpo":
        objective = build(name, objective={"kl_coef": 0.0}).objective
    inputs, mask = golden_rows(case)
    loss, gradient = loss_and_gradient(objective, inputs)
    if name == "tree_grpo" and expected["metrics"]["pg_clipfrac_lower"] > 0:
        assert loss > expected["loss"]  # the dual clip only ever lowers the loss
        return
    assert loss == pytest.approx(expected["loss"], rel=1e-7)
    np.testing.assert_allclose(gradient, np.array(expected["grad_logp"])[mask], rtol=1e-7, atol=0)


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


QUICKSTART = "quickstart"
BUDGETS = {  # 8 leaves a question for all of them
    "at2po": "{name: at2po, expansion: {chains: 4, per_round: 2, rounds: 2}}",
    "grpo": "{name: grpo, expansion: {n: 8}, objective: {kl_coef: 1.0e-3}}",
    "dapo": "{name: dapo, expansion: {n: 8}, groups: {max_batches: 3}}",
    "gspo": "{name: gspo, expansion: {n: 8}}",
    "aepo": "{name: aepo, expansion: {chains: 4, leaves: 8, dynamic_start: true}}",
    "tree_grpo": "{name: tree_grpo, expansion: {leaves: 8}}",
}
SHARES = ("em", "f1", "malformed", "update_clip_fraction", "update_dual_clip_fraction", "update_turn_kl_entropy")


def assert_sane(line: dict[str, Any], vocabulary: int, questions: int) -> None:
    """Whatever a step reports is finite, in its range, and accounts for what was sampled."""
    assert all(math.isfinite(value) for value in line.values() if isinstance(value, int | float)), line
    assert all(0 <= line[name] <= 1 for name in SHARES if name in line), line
    assert -2 <= line["reward"] <= 1 and 1 <= line["turns"] <= 6
    assert 0 < line["entropy"] <= math.log(vocabulary) and 0 < line["update_entropy"] <= math.log(vocabulary)
    assert abs(line["update_ppo_kl"]) < 0.5 and 0 <= line.get("update_kl_ref", 0.0) < 5
    assert 0 < line["update_ratio_min"] <= 1 <= line["update_ratio_max"]
    assert line["leaves"] == 8 * line["trees"] and line["paths_lost"] == line["trees_dropped"] == 0
    assert line["trees_with_signal"] <= line["trees"] <= questions
    assert 0 <= line["unused_tokens"] < line["generated_tokens"]
    assert line["update_steps"] == 1 and line["update_skipped_steps"] == 0


@pytest.mark.slow
@pytest.mark.timeout(900)  # half a minute where two cores are free
@pytest.mark.parametrize("name", ALGORITHMS)
def test_it_learns_microwiki_for_ten_steps_with_sane_numbers(name: str, tmp_path: Path) -> None:
    changes = [f"algorithm={BUDGETS[name]}", f"run_dir={tmp_path / name}", "train.max_seconds=null", "seed=1"]
    config = load_config(QUICKSTART, [*changes, "train.steps=10", "rollout.questions=24", "eval.questions=200"])
    with RunDirectory.create(config) as run, Display(10, None, Console(quiet=True)) as display:
        result = train(config, run=run, display=display)
    lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "reward" in line]
    for line in steps:
        assert_sane(line, vocabulary=720, questions=24)
    assert len(steps) == result.steps == 10
    assert result.generated_tokens == sum(line["generated_tokens"] for line in steps)
    assert result.before is not None and result.after is not None
    before, after = result.before.mean, result.after.mean
    assert after > before - 0.05, (before, after)  # nothing collapses
    if name == "dapo":
        assert all(line["trees"] == line["trees_with_signal"] for line in steps)
        assert sum(line["groups_equal"] for line in steps) > 0
    print(f"{name}: {len(steps)} steps, exact match {before:.1%} → {after:.1%}")
