"""Expansion: golden picks of the official code, hand-worked rounds and branches, and budgets that always hold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.expansion import (
    Chains,
    EntropyBalanced,
    EntropyGuided,
    Expansion,
    RandomExpansion,
    TreeGRPOExpansion,
)
from at2po_agent.tree import ROOT, Branch, TurnTree
from tests.at2po_agent.drawn_trees import draw, golden_trees, grow_scripted

RNG = np.random.default_rng(0)


def after_chains(tree: TurnTree, chains: int = 1) -> TurnTree:
    """As if all paths of the first proposal had just ended."""
    tree.proposals = [tuple(Branch(ROOT, group) for group in range(chains))]
    return tree


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


# --- Tree-GRPO -----------------------------------------------------------------------------------------------------


def test_tree_grpo_continues_the_picked_node_inside_its_own_tree() -> None:
    #  group 0: 0 ─ 1 ─ 2*      group 1: 0 ─ 3 ─ 4 ─ 5*
    tree = after_chains(draw([-1, 0, 1, 0, 3, 4]), 2)
    branches = TreeGRPOExpansion(per_round=2, leaves=6).propose(tree, RNG)
    assert branches[:2] == [(1, 0), (1, 0)]  # its only non-leaf turn, taken twice
    assert sorted(branches[2:]) == [(3, 1), (4, 1)]


def test_a_tree_without_inner_turns_gets_new_chains_of_its_own_group() -> None:
    tree = after_chains(draw([-1, 0, 0, 2]), 2)
    assert TreeGRPOExpansion(per_round=1, leaves=4).propose(tree, RNG) == [(ROOT, 0), (2, 1)]


@given(trees=st.integers(1, 4), n=st.integers(1, 3), rounds=st.integers(0, 3), seed=st.integers(0, 99))
def test_tree_grpo_gives_two_groups_of_equal_size_under_one_prompt(trees: int, n: int, rounds: int, seed: int) -> None:
    expansion = TreeGRPOExpansion(trees, n, leaves=trees * (rounds * n + 1))
    lengths = np.random.default_rng(seed)
    tree = grow_scripted(expansion, lambda t, path: (1.0, lengths.random() < 0.4), np.random.default_rng(seed))
    assert Counter(tree[leaf].group for leaf in tree.leaves) == dict.fromkeys(range(trees), rounds * n + 1)
    assert len(tree.proposals) == rounds + 1
    for node in tree.nodes[1:]:
        assert tree[node.parent].group in (node.group, -1)


# --- AEPO ----------------------------------------------------------------------------------------------------------


class Draws:
    """A generator whose ``random()`` is scripted."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def random(self) -> float:
        return self.values.pop(0)

    @classmethod
    def of(cls, *values: float) -> np.random.Generator:
        return cast(np.random.Generator, cls(*values))


def coins(tokens: float) -> tuple[tuple[tuple[int, float], ...], ...]:
    """Top log-probabilities of fair coins: with a vocabulary of 2 each has a normalised entropy of exactly 1."""
    return (((0, math.log(0.5)), (1, math.log(0.5))),) * int(tokens)


def test_the_entropy_of_a_turn_counts_ten_options_of_twenty_tokens() -> None:
    strategy = EntropyBalanced(vocab_size=100)
    turn = draw([-1, 0])[1]
    turn.top_logprobs = ((((0, math.log(0.3)),) * 12),) * 25
    assert strategy.entropy(turn) == pytest.approx(-20 * 10 * 0.3 * math.log(0.3) / math.log(100))
    turn.top_logprobs = ()
    with pytest.raises(ValueError, match="top_logprobs=10"):
        strategy.entropy(turn)


def test_aepo_branches_while_the_chains_run() -> None:
    """Two chains of four turns; entropies (in coins) by depth. Worked by hand:

    event 1, nodes 1 and 2: rise 0, no branch before. u = 0.4 → no; u = 0.5 → branch under 2. 3 of 4 paths.
    event 2, nodes 3, 4, 5 (5 is the branch's first turn, under 2): rise 1 − 2 = −1 → −0.2.
        3: 0.69 − 0.2 = 0.49 → no.
        4: (0.72 − 0.2) · 0.95 = 0.494 → no, because 2 branched right before.
        5: (0.73 − 0.2) · 0.95 = 0.5035 → branch under 5. 4 of 4 paths: the budget is used up, nothing is drawn again.
    """
    events: list[tuple[int, Sequence[Branch]]] = []
    by_depth = {1: (2.0, False), 2: (1.0, False), 3: (5.0, False), 4: (5.0, True)}
    tree = grow_scripted(
        EntropyBalanced(vocab_size=2, chains=2, leaves=4),
        lambda tree, path: by_depth[tree[path.node].depth + 1],
        Draws.of(0.4, 0.5, 0.69, 0.72, 0.73),
        after=lambda tree, branches: events.append((tree.open_paths, list(branches))),
        top_logprobs=coins,
    )
    assert events[:3] == [(0, [(ROOT, 0), (ROOT, 1)]), (2, [(2, 1)]), (3, [(5, 1)])]
    assert all(not branches for _, branches in events[3:])
    assert [tree[n].parent for n in (3, 4, 5)] == [1, 2, 2]
    assert len(tree.leaves) == 4


def test_a_rise_in_entropy_counts_from_the_first_turn_of_the_path() -> None:
    tree = draw([-1, 0, 1, 2, 3])
    for n, tokens in enumerate([0, 1, 4, 3]):
        tree[n].top_logprobs = coins(tokens)
    strategy = EntropyBalanced(vocab_size=2, chains=1, leaves=9)
    tree.proposals, tree.fresh, tree.open_paths = [(Branch(ROOT, 0),)], (3,), 1
    # rise 3 − 1 = 2 → 0.4
    assert strategy.propose(tree, Draws.of(0.10)) == [(3, 0)]
    assert strategy.propose(tree, Draws.of(0.09)) == []
    tree.proposals += [(Branch(1, 0),), (Branch(2, 0),)]  # two branched turns in a row before it: · 0.9
    assert strategy.propose(tree, Draws.of(0.16)) == [(3, 0)]
    assert strategy.propose(tree, Draws.of(0.15)) == []
    del tree.proposals[2]  # turn 2 did not branch, so 1 is not consecutive
    assert strategy.propose(tree, Draws.of(0.10)) == [(3, 0)]


def test_what_is_left_of_the_budget_becomes_fresh_chains_in_new_groups() -> None:
    tree = grow_scripted(EntropyBalanced(vocab_size=2, chains=2, leaves=5), lambda *_: (1.0, True), RNG)
    assert tree.proposals[1] == (Branch(ROOT, 2), Branch(ROOT, 3), Branch(ROOT, 4))
    assert len(tree.leaves) == 5


def test_a_first_chain_can_decide_how_many_there_are() -> None:
    """Leaves 8. First chain of three turns with entropies (coins) 6, 2, 2: M = ⌊8·σ(0.5·4)⌋ + 1 = ⌊7.05⌋ + 1 = 8.

    With 2, 6, 6 it is ⌊8·σ(−2)⌋ + 1 = ⌊0.95⌋ + 1 = 1, and with one turn alone ⌊8·σ(0)⌋ + 1 = 5.
    """
    strategy = EntropyBalanced(vocab_size=2, leaves=8, dynamic_start=True)
    tree = draw([-1, 0, 1, 2])
    tree.proposals = []
    assert strategy.propose(tree, RNG) == [(ROOT, 0)]
    for entropies, chains in (((6, 2, 2), 8), ((2, 6, 6), 1)):
        for n, tokens in enumerate(entropies, 1):
            tree[n].top_logprobs = coins(tokens)
        assert strategy.start(tree) == chains
    alone = draw([-1, 0])
    alone[1].top_logprobs = coins(3)
    assert strategy.start(alone) == 5
    after_chains(tree).open_paths = 1
    assert strategy.propose(tree, RNG) == ()  # the first chain is not over yet
    # now it is: M is 1, so no other chain, but its inner turns may branch. Turn 1: no rise, u = 0.4 → no;
    # turn 2 rises by 6 − 2 = 4: u = 0 + 0.8 → a branch under it
    tree.open_paths = 0
    assert strategy.propose(tree, Draws.of(0.4, 0.0)) == [(2, 0)]


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
