"""Expansion: golden picks of the official code, hand-worked rounds and branches, and budgets that always hold."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.method.expansion import Chains, EntropyGuided, Expansion, RandomExpansion
from at2po_agent.method.expansion_rivals import EntropyBalanced, TreeGRPOExpansion
from at2po_agent.method.tree import ROOT, Branch
from tests.helpers.drawn_trees import after_chains, coins, draw, golden_trees, grow_scripted

RNG = np.random.default_rng(0)


# --- AT²PO ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("golden", golden_trees(), ids=lambda tree: f"seed{tree['seed']}")
def test_the_official_picks(golden: dict[str, Any]) -> None:
    for entry in golden["rounds"]:
        n = entry["n_nodes"]
        tree = after_chains(draw(golden["parent"][:n], golden["entropy"][:n]))
        branches = EntropyGuided(per_round=entry["k"]).propose(tree, RNG)
        # draw() gives every turn under the root its own group, so a branch at the root tells who proposed it
        assert branches == [(golden["parent"][pick], tree[pick].group) for pick in entry["selected"]]


#   0 ── 1 ── 2 ── 3*        H: 1: 0.90  2: 0.50  4: 0.92  5: 1.00    (* leaf)
#   ├─── 4 ── 5 ── 6*        0 has 2 children, 1 and 4 and 5 have 1, 2 has 2
#   └    2 ── 7*
DRAWN = draw([-1, 0, 1, 2, 0, 4, 5, 2], [0, 0.90, 0.50, 2.0, 0.92, 1.0, 2.0, 2.0])


def test_a_hand_worked_round() -> None:
    strategy = EntropyGuided(per_round=3, alpha=0.45)
    # with α = 0.45:  1: 0.90 − 0.45·(2−1) = 0.45   2: 0.50   4: 0.92 − 0.45 = 0.47   5: 1.00
    assert [strategy.score(DRAWN, n) for n in (1, 2, 4, 5)] == pytest.approx([0.45, 0.50, 0.47, 1.00])
    picked = strategy.propose(after_chains(DRAWN, 2), RNG)
    assert picked == [(4, 1), (1, 0), (0, 1)]  # the parents of 5, 2 and 4; the branch at the root joins 4's group


def test_scores_are_not_updated_inside_a_round() -> None:
    # after picking 5, its sibling-to-be would cost it α; yet with K above the candidates the same order is repeated
    strategy = EntropyGuided(per_round=10, alpha=0.45)
    order = [(4, 1), (1, 0), (0, 1), (0, 0)]
    assert strategy.propose(after_chains(DRAWN, 2), RNG) == (order * 3)[:10]


def test_ties_go_to_the_older_turn() -> None:
    tree = after_chains(draw([-1, 0, 1, 0, 3, 0, 5], [0, 1, 1, 1, 1, 1, 1]), 3)
    assert EntropyGuided(per_round=2).propose(tree, RNG) == [(ROOT, 0), (ROOT, 1)]


def test_where_every_chain_answered_at_once_the_root_keeps_the_budget() -> None:
    tree = after_chains(draw([-1, 0, 0]), 2)
    fresh = [Branch(ROOT, 2), Branch(ROOT, 3), Branch(ROOT, 4)]
    assert EntropyGuided(per_round=3).propose(tree, RNG) == fresh
    assert RandomExpansion(per_round=3).propose(tree, RNG) == fresh


def test_the_root_is_a_candidate_only_on_request_and_is_picked_last() -> None:
    tree = after_chains(DRAWN, 2)
    turns = EntropyGuided(per_round=5).propose(tree, RNG)
    assert turns[4] == turns[0]  # four candidates, so the best again
    with_root = EntropyGuided(per_round=5, candidates="turns+root")
    assert with_root.score(tree, ROOT) == pytest.approx(-0.05)  # H = 0, and one child more than its first
    assert with_root.propose(tree, RNG) == [*turns[:4], Branch(ROOT, 2)]


def test_rounds_wait_for_open_paths_and_end_after_l() -> None:
    tree = after_chains(draw([-1, 0, 1]))
    strategy = EntropyGuided(rounds=1)
    tree.open_paths = 1
    assert not strategy.propose(tree, RNG)
    tree.open_paths = 0
    tree.proposals.append(tuple(strategy.propose(tree, RNG)))
    assert len(tree.proposals[1]) == 6
    assert not strategy.propose(tree, RNG)


# --- random --------------------------------------------------------------------------------------------------------


def test_random_picks_are_uniform_over_the_candidates_of_entropy() -> None:
    tree = after_chains(DRAWN, 2)
    rng = np.random.default_rng(1)
    picks = Counter(branch for _ in range(4000) for branch in RandomExpansion(per_round=1).propose(tree, rng))
    assert set(picks) == set(EntropyGuided(per_round=4).propose(tree, rng))
    assert all(abs(count - 1000) < 4 * math.sqrt(750) for count in picks.values())  # 4 sigma of a binomial


def test_random_picks_repeat_only_when_the_candidates_are_used_up() -> None:
    tree = after_chains(DRAWN, 2)
    for seed in range(20):
        picks = Counter(RandomExpansion(per_round=6).propose(tree, np.random.default_rng(seed)))
        assert sorted(picks.values()) == [1, 1, 2, 2]


# --- all of them ---------------------------------------------------------------------------------------------------

BUDGETS: list[tuple[Expansion, int]] = [
    (Chains(5), 5),
    (EntropyGuided(3, 4, 2), 11),
    (EntropyGuided(2, 5, 1, candidates="turns+root"), 7),
    (RandomExpansion(3, 4, 2), 11),
    (TreeGRPOExpansion(3, 2, leaves=14), 14),
    (EntropyBalanced(vocab_size=2, chains=3, leaves=8), 8),
    (EntropyBalanced(vocab_size=2, chains=1, leaves=7, dynamic_start=True), 7),
]


@pytest.mark.parametrize(("expansion", "budget"), BUDGETS, ids=lambda value: type(value).__name__)
@given(seed=st.integers(0, 10_000), ends=st.floats(0.1, 1.0), lockstep=st.booleans())
def test_the_budget_of_leaves_is_met_whatever_the_paths_do(
    expansion: Expansion, budget: int, seed: int, ends: float, lockstep: bool
) -> None:
    world = np.random.default_rng(seed)

    def some(n: int) -> list[int]:
        return list(range(n)) if lockstep else [int(world.integers(n))]

    tree = grow_scripted(
        expansion,
        lambda tree, path: (float(world.integers(4)), bool(world.random() < ends)),
        np.random.default_rng(seed),
        order=some,
        top_logprobs=lambda entropy: coins(entropy + 1),
    )
    assert len(tree.leaves) == tree.started == budget


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Chains(0), "n is 0"),
        (lambda: EntropyGuided(per_round=0), "per_round is 0"),
        (lambda: EntropyGuided(alpha=-0.1), "alpha is -0.1"),
        (lambda: RandomExpansion(chains=0), "chains is 0"),
        (lambda: TreeGRPOExpansion(trees=4, leaves=3), "leaves is 3, it must be at least 4"),
        (lambda: EntropyBalanced(vocab_size=1), "vocab_size is 1"),
    ],
)
def test_settings_that_cannot_grow_a_tree_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
