"""Objectives: golden losses, gradients and metrics of the official code, hand-worked rows, and the reductions."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from at2po_agent.method.objective import AEPO, ATPO, GSPO, LossInputs, Objective, TokenClip
from tests.helpers.drawn_trees import GOLDEN, draw

GOLDEN_OBJECTIVES: dict[str, Objective] = {
    "atpo": ATPO(),
    "gspo": GSPO(),
    "grpo_token_mean": TokenClip(),
    "grpo_seq_mean_token_mean": TokenClip(aggregation="seq_mean_token_mean"),
    "dapo": TokenClip(eps_high=0.28),
    "aepo": AEPO(),
}
EVERY_OBJECTIVE = [*GOLDEN_OBJECTIVES.values(), TokenClip(dual_clip=None, kl_coef=0.1), ATPO(kl_coef=0.5)]
GOLDEN_METRICS = {"pg_clipfrac": "clip_fraction", "pg_clipfrac_lower": "dual_clip_fraction", "ppo_kl": "ppo_kl"}


def rows(
    logp: Sequence[float],
    logp_old: Sequence[float],
    advantage: Sequence[float],
    sequence_ids: Sequence[int],
    turn_ids: Sequence[int],
    **more: Any,
) -> LossInputs:
    """A whole mini-batch of float64 rows."""
    return LossInputs(
        torch.tensor(logp, dtype=torch.float64, requires_grad=True),
        torch.tensor(logp_old, dtype=torch.float64),
        torch.tensor(advantage, dtype=torch.float64),
        torch.tensor(sequence_ids),
        torch.tensor(turn_ids),
        n_sequences=len(set(sequence_ids)),
        n_tokens=len(logp),
        **more,
    )


def loss_and_gradient(objective: Objective, inputs: LossInputs) -> tuple[float, Tensor]:
    loss = objective(inputs).loss
    (gradient,) = torch.autograd.grad(loss, inputs.logp)
    return loss.item(), gradient


@st.composite
def mini_batches(draw_: st.DrawFn, off_policy: float = 0.5) -> LossInputs:
    """Ragged trajectories of ragged turns, with advantages of both signs inside one turn."""
    layout = draw_(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=4))
    turns = [(i, length) for i, trajectory in enumerate(layout) for length in trajectory]
    n = sum(length for _, length in turns)
    rng = np.random.default_rng(draw_(st.integers(0, 10_000)))
    entropy = rng.uniform(0, 3, n)
    logp_old = -rng.uniform(0.01, 3, n)
    return rows(
        logp_old + off_policy * rng.normal(size=n),
        logp_old,
        rng.normal(size=n),
        [i for i, length in turns for _ in range(length)],
        [k for k, (_, length) in enumerate(turns) for _ in range(length)],
        entropy=torch.tensor(entropy),
        entropy_mean=float(entropy.mean()),
        entropy_std=float(entropy.std(ddof=1)) if n > 1 else 0.0,
        logp_ref=torch.tensor(logp_old + 0.3 * rng.normal(size=n)),
    )


# --- golden --------------------------------------------------------------------------------------------------------

GOLDEN_CASES = json.loads((GOLDEN / "losses.json").read_text())["cases"]


def golden_rows(case: dict[str, Any]) -> tuple[LossInputs, Any]:
    mask = np.array(case["mask"]) > 0
    starts = mask & ~np.pad(mask, ((0, 0), (1, 0)))[:, :-1]  # a turn is a run of ones
    turn_ids = (starts.cumsum() - 1).reshape(mask.shape)[mask]
    values = {name: np.array(case[name])[mask] for name in ("logp", "logp_old", "advantages", "entropy")}
    entropy = values["entropy"]
    more = {"entropy": torch.tensor(entropy), "entropy_mean": entropy.mean(), "entropy_std": entropy.std(ddof=1)}
    sequence_ids = mask.nonzero()[0].tolist()
    inputs = rows(values["logp"], values["logp_old"], values["advantages"], sequence_ids, turn_ids.tolist(), **more)
    return inputs, mask


@pytest.mark.parametrize("name", GOLDEN_OBJECTIVES)
@pytest.mark.parametrize("case", GOLDEN_CASES, ids=lambda case: case["case"])
def test_the_official_losses_gradients_and_metrics(case: dict[str, Any], name: str) -> None:
    inputs, mask = golden_rows(case)
    expected = case["expected"][name]
    loss, gradient = loss_and_gradient(GOLDEN_OBJECTIVES[name], inputs)
    assert loss == pytest.approx(expected["loss"], rel=1e-7)
    np.testing.assert_allclose(gradient, np.array(expected["grad_logp"])[mask], rtol=1e-7, atol=0)
    metrics = GOLDEN_OBJECTIVES[name](inputs).metrics
    for theirs, ours in GOLDEN_METRICS.items():
        assert metrics.get(ours, 0.0) == pytest.approx(expected["metrics"][theirs], rel=1e-7)
    if "turn_kl_entropy" in expected["metrics"]:  # computed in float32 there
        assert metrics["turn_kl_entropy"] == pytest.approx(expected["metrics"]["turn_kl_entropy"], rel=1e-6)


# --- hand-worked ---------------------------------------------------------------------------------------------------


def test_atpo_by_hand() -> None:
    """One trajectory, turns of 2 and 1 tokens, ratios e^0.1 and e^−0.2, bounds 0.1 and 0.1, A = 1 and −1.

    Turn 0: log s = (0.3 − 0.1)/2 = 0.1, s = 1.105 > 1.1: clipped, no gradient, −1.1 each.
    Turn 1: log s = −0.2, s = 0.819 < 0.9, A < 0: min(−s, −0.9) = −0.9 is clipped too. loss = −(1.1 + 1.1 − 0.9)/3.
    """
    inputs = rows([-0.7, -1.1, -1.2], [-1.0, -1.0, -1.0], [1.0, 1.0, -1.0], [0, 0, 0], [0, 0, 1])
    loss, gradient = loss_and_gradient(ATPO(eps_low=0.1, eps_high=0.1), inputs)
    assert loss == pytest.approx(-1.3 / 3)
    assert gradient.tolist() == [0, 0, 0]
    # wider bounds: nothing is clipped, and a token's gradient is the turn's ratio, whatever its own is
    loss, gradient = loss_and_gradient(ATPO(eps_low=0.5, eps_high=0.5), inputs)
    assert loss == pytest.approx(-(2 * math.exp(0.1) - math.exp(-0.2)) / 3)
    assert gradient.tolist() == pytest.approx([-math.exp(0.1) / 3, -math.exp(0.1) / 3, math.exp(-0.2) / 3])


def test_a_trajectory_counts_once_however_long_it_is() -> None:
    inputs = rows([-1.0] * 4, [-1.0] * 4, [1.0, 1.0, 1.0, 5.0], [0, 0, 0, 1], [0, 0, 0, 1])
    for objective in (ATPO(), GSPO(), TokenClip(aggregation="seq_mean_token_mean")):
        assert objective(inputs).loss.item() == pytest.approx(-(1 + 5) / 2)
    assert TokenClip()(inputs).loss.item() == pytest.approx(-(3 * 1 + 5) / 4)


def test_the_dual_clip_bounds_the_loss_of_a_bad_token_that_became_likely() -> None:
    inputs = rows([0.0, -2.0], [-2.0, 0.0], [-1.0, -1.0], [0, 0], [0, 0])  # ratios e² = 7.4 and e⁻²
    loss, gradient = loss_and_gradient(TokenClip(), inputs)
    assert loss == pytest.approx((3.0 + 0.8) / 2)
    assert gradient.tolist() == [0, 0]
    loss, gradient = loss_and_gradient(TokenClip(dual_clip=None), inputs)
    assert loss == pytest.approx((math.exp(2) + 0.8) / 2)
    assert gradient.tolist() == pytest.approx([math.exp(2) / 2, 0])
    assert TokenClip()(inputs).metrics["dual_clip_fraction"] == 0.5


def test_aepo_keeps_the_gradient_of_a_good_token_beyond_the_upper_bound() -> None:
    inputs = rows([0.0, -1.0], [-1.0, 0.0], [1.0, 1.0], [0, 0], [0, 0])  # ratios e and 1/e
    loss, gradient = loss_and_gradient(AEPO(entropy_weight=0), inputs)
    assert loss == pytest.approx(-(1.2 + math.exp(-1)) / 2)
    assert gradient.tolist() == pytest.approx([-1.2 / 2, -math.exp(-1) / 2])
    _, gradient = loss_and_gradient(TokenClip(), inputs)
    assert gradient.tolist() == pytest.approx([0, -math.exp(-1) / 2])


def test_aepo_weighs_uncertain_tokens_more() -> None:
    more = {"entropy": torch.tensor([1.0, 3.0]), "entropy_mean": 2.0, "entropy_std": math.sqrt(2)}
    inputs = rows([-1.0, -1.0], [-1.0, -1.0], [1.0, -1.0], [0, 1], [0, 1], **more)
    _, gradient = loss_and_gradient(AEPO(), inputs)
    low, high = 1 - 0.2 / math.sqrt(2), 1 + 0.2 / math.sqrt(2)
    assert gradient.tolist() == pytest.approx([-low / 2, high / 2])
    flat = dataclasses.replace(inputs, entropy_mean=1.0, entropy_std=0.0)  # a std of 0 counts as 1
    assert loss_and_gradient(AEPO(), flat)[1].tolist() == pytest.approx([-1 / 2, 1.4 / 2])


@pytest.mark.parametrize("make", [ATPO, GSPO, TokenClip, AEPO])
def test_the_kl_to_the_reference_is_added_with_the_objectives_own_aggregation(make: Any) -> None:
    more = {"entropy": torch.ones(3), "entropy_mean": 1.0, "entropy_std": 0.0}
    logp_ref = torch.tensor([-1.5, -1.0, -0.5], dtype=torch.float64)
    inputs = rows([-1.0] * 3, [-1.0] * 3, [0.0] * 3, [0, 0, 1], [0, 0, 1], logp_ref=logp_ref, **more)
    k3 = [math.exp(-0.5) + 0.5 - 1, 0.0, math.exp(0.5) - 0.5 - 1]
    by_sequence, by_token = ((k3[0] + k3[1]) / 2 + k3[2]) / 2, sum(k3) / 3
    loss, gradient = loss_and_gradient(make(kl_coef=0.1), inputs)
    assert loss == pytest.approx(0.1 * (by_sequence if make in (ATPO, GSPO) else by_token))
    weights = [1 / 4, 1 / 4, 1 / 2] if make in (ATPO, GSPO) else [1 / 3] * 3
    slope = [1 - math.exp(-0.5), 0.0, 1 - math.exp(0.5)]  # d k3 / d logp
    assert gradient.tolist() == pytest.approx([0.1 * w * s for w, s in zip(weights, slope, strict=True)])
    assert make(kl_coef=0.1)(inputs).metrics["kl_ref"] == pytest.approx(by_token)


# --- reductions ----------------------------------------------------------------------------------------------------


@given(mini_batches())
def test_with_one_turn_per_trajectory_atpo_is_gspo(inputs: LossInputs) -> None:
    inputs = dataclasses.replace(inputs, turn_ids=inputs.sequence_ids)
    atpo, gspo = (loss_and_gradient(make(eps_low=0.1, eps_high=0.2), inputs) for make in (ATPO, GSPO))
    assert atpo[0] == gspo[0] and torch.equal(atpo[1], gspo[1])


@given(mini_batches())
def test_with_one_token_per_turn_atpo_is_token_clipping(inputs: LossInputs) -> None:
    inputs = dataclasses.replace(inputs, turn_ids=torch.arange(inputs.n_tokens))
    atpo = loss_and_gradient(ATPO(eps_low=0.1, eps_high=0.2), inputs)
    token = loss_and_gradient(TokenClip(0.1, 0.2, dual_clip=None, aggregation="seq_mean_token_mean"), inputs)
    assert atpo[0] == pytest.approx(token[0], rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(atpo[1], token[1], rtol=1e-12, atol=1e-15)


@given(mini_batches(off_policy=0.0), st.sampled_from(list(GOLDEN_OBJECTIVES.values())))
def test_on_policy_every_gradient_is_the_policy_gradient(inputs: LossInputs, objective: Objective) -> None:
    lengths = torch.bincount(inputs.sequence_ids)[inputs.sequence_ids].double()
    by_sequence = isinstance(objective, ATPO | GSPO) or getattr(objective, "aggregation", "") == "seq_mean_token_mean"
    weight = 1 / (inputs.n_sequences * lengths) if by_sequence else torch.full_like(inputs.logp, 1 / inputs.n_tokens)
    advantage = inputs.advantage
    if isinstance(objective, AEPO):
        assert inputs.entropy is not None and inputs.entropy_mean is not None
        advantage = advantage * (1 + 0.2 * (inputs.entropy - inputs.entropy_mean) / (inputs.entropy_std or 1))
    _, gradient = loss_and_gradient(objective, inputs)
    np.testing.assert_allclose(gradient, -weight * advantage, rtol=1e-12, atol=1e-15)


def test_atpo_with_per_node_credit_collapses_to_one_weight_per_token() -> None:
    """``w_t = Σ_{leaf under n} 1 / (N · |y_leaf|)``: a shared token's rows differ in nothing but their weight."""
    tree = draw([-1, 0, 1, 1, 3, 0])  # leaves 2, 4, 5 with 2, 3 and 1 tokens; turn 1 is shared by leaves 2 and 4
    paths = [path for _, path in tree.trajectories()]
    advantage = torch.tensor([0.0, 0.7, -1.0, 0.3, 2.0, -0.5], dtype=torch.float64)  # per node; one token each
    logp_old = -torch.arange(6, dtype=torch.float64)
    logp = (logp_old + torch.tensor([0, 0.001, -0.002, 0.003, 0.02, -0.001])).requires_grad_()
    index = torch.tensor([n for path in paths for n in path])
    sequence_ids = torch.tensor([i for i, path in enumerate(paths) for _ in path])
    turn_ids = torch.arange(len(index))
    inputs = LossInputs(logp[index], logp_old[index], advantage[index], sequence_ids, turn_ids, len(paths), len(index))
    (gradient,) = torch.autograd.grad(ATPO()(inputs).loss, logp)
    weight = torch.tensor([0, 1 / 2 + 1 / 3, 1 / 2, 1 / 3, 0, 1], dtype=torch.float64) / 3  # node 4 is clipped
    np.testing.assert_allclose(gradient, -weight * advantage * (logp - logp_old).exp().detach(), rtol=1e-12)


def test_a_shared_token_can_be_pulled_both_ways() -> None:
    """One token, two leaves, A = +1 and −1, ratio e^0.3: clipping sees each row alone, so the pulls do not cancel."""
    logp = torch.tensor([-0.7], dtype=torch.float64, requires_grad=True)
    index = torch.tensor([0, 0])
    old, advantage = torch.tensor([-1.0, -1.0]).double(), torch.tensor([1.0, -1.0]).double()
    inputs = LossInputs(logp[index], old, advantage, torch.tensor([0, 1]), torch.tensor([0, 1]), 2, 2)
    loss = TokenClip()(inputs).loss
    (gradient,) = torch.autograd.grad(loss, logp)
    assert loss.item() == pytest.approx((-1.2 + math.exp(0.3)) / 2)
    assert gradient.item() == pytest.approx(math.exp(0.3) / 2)


# --- properties ----------------------------------------------------------------------------------------------------


def take(inputs: LossInputs, chosen: Tensor) -> LossInputs:
    """The chosen rows as a micro-batch: the same totals, ids counted from 0 again."""
    assert inputs.entropy is not None and inputs.logp_ref is not None
    return dataclasses.replace(
        inputs,
        logp=inputs.logp[chosen],
        logp_old=inputs.logp_old[chosen],
        advantage=inputs.advantage[chosen],
        sequence_ids=inputs.sequence_ids[chosen].unique(return_inverse=True)[1],
        turn_ids=inputs.turn_ids[chosen].unique(return_inverse=True)[1],
        entropy=inputs.entropy[chosen],
        logp_ref=inputs.logp_ref[chosen],
    )


@given(mini_batches(), st.sampled_from(EVERY_OBJECTIVE), st.integers(0, 99))
def test_neither_micro_batches_nor_the_order_of_rows_change_the_loss(
    inputs: LossInputs, objective: Objective, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(inputs.n_tokens, generator=generator)
    cut = int(torch.randint(inputs.n_sequences + 1, (1,), generator=generator))
    parts = [
        part
        for part in (order[inputs.sequence_ids[order] < cut], order[inputs.sequence_ids[order] >= cut])
        if len(part)
    ]
    loss, gradient = loss_and_gradient(objective, inputs)
    split = torch.stack([objective(take(inputs, part)).loss for part in parts]).sum()
    assert split.item() == pytest.approx(loss, rel=1e-10, abs=1e-12)
    np.testing.assert_allclose(torch.autograd.grad(split, inputs.logp)[0], gradient, rtol=1e-10, atol=1e-14)


@given(mini_batches(), st.sampled_from(EVERY_OBJECTIVE))
def test_without_advantage_nothing_is_learned(inputs: LossInputs, objective: Objective) -> None:
    inputs = dataclasses.replace(inputs, advantage=torch.zeros_like(inputs.advantage))
    _, gradient = loss_and_gradient(dataclasses.replace(objective, kl_coef=0.0), inputs)
    assert not gradient.any()


@given(
    st.lists(st.tuples(st.floats(-200, 0, width=32), st.floats(-200, 0, width=32)), min_size=1, max_size=6),
    st.sampled_from(EVERY_OBJECTIVE),
    st.floats(-3, 3, width=32),
)
def test_float32_stays_finite_however_far_the_policies_are_apart(
    pairs: list[tuple[float, float]], objective: Objective, advantage: float
) -> None:
    logp, logp_old = torch.tensor(pairs, dtype=torch.float32).unbind(1)
    ids, n = torch.zeros(len(pairs), dtype=torch.int64), len(pairs)
    inputs = LossInputs(logp.clone().requires_grad_(), logp_old, torch.full((n,), advantage), ids, ids, 1, n)
    inputs = dataclasses.replace(inputs, logp_ref=logp_old, entropy=-logp, entropy_mean=1.0, entropy_std=1.0)
    outputs = objective(inputs)
    (gradient,) = torch.autograd.grad(outputs.loss, inputs.logp)
    assert outputs.loss.isfinite() and gradient.isfinite().all()
    assert all(math.isfinite(value) for value in outputs.metrics.values())


# --- what is refused -----------------------------------------------------------------------------------------------


def test_an_objective_says_what_it_misses() -> None:
    inputs = rows([-1.0], [-1.0], [1.0], [0], [0])
    with pytest.raises(ValueError, match="logp_ref"):
        ATPO(kl_coef=0.1)(inputs)
    assert AEPO().uses_entropy and not AEPO(entropy_weight=0).uses_entropy
    with pytest.raises(ValueError, match="entropy of every row"):
        AEPO()(inputs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ATPO(eps_low=1.0), "eps_low is 1.0"),
        (lambda: GSPO(eps_high=-0.1), "eps_high is -0.1"),
        (lambda: TokenClip(dual_clip=1.0), "dual_clip is 1.0"),
        (lambda: AEPO(kl_coef=-1), "kl_coef is -1"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
