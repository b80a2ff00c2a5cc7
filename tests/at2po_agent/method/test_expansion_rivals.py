"""Tree-GRPO's and AEPO's branches, worked by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.method.expansion_rivals import EntropyBalanced, TreeGRPOExpansion
from at2po_agent.method.tree import ROOT, Branch
from tests.helpers.drawn_trees import after_chains, coins, draw, grow_scripted

RNG = np.random.default_rng(0)


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
