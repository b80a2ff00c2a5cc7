"""Credit: golden values of the official code, hand-worked trees, and the reductions between the forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.method.credit import Credit, LeafCredit, TreeGRPOCredit, TurnCredit, z_scores
from at2po_agent.method.tree import ROOT, TurnNode, TurnTree
from tests.helpers.drawn_trees import draw, golden_trees

VALUES = ("child_softmax", "child_mean", "leaf_mean")
ADVANTAGES = ("node_value", "diff_parent", "diff_global", "diff_local_global")

EVERY_CREDIT: list[Credit] = [
    *(TurnCredit(value, advantage) for value in VALUES for advantage in ADVANTAGES),
    LeafCredit(),
    LeafCredit(std="unbiased"),
    TreeGRPOCredit(),
    TreeGRPOCredit(nested=True),
]


@st.composite
def credited_trees(draw_: st.DrawFn) -> tuple[TurnTree, dict[int, float]]:
    n = draw_(st.integers(2, 14))
    parents = [-1, *(draw_(st.integers(0, i - 1)) for i in range(1, n))]
    entropies = draw_(st.lists(st.floats(0, 5), min_size=n, max_size=n))
    tree = draw(parents, entropies)
    rewards = draw_(
        st.lists(st.sampled_from([-1.0, 0.0, 0.4, 1.0]), min_size=len(tree.leaves), max_size=len(tree.leaves))
    )
    return tree, dict(zip(tree.leaves, rewards, strict=True))


# --- AT²PO ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("golden", golden_trees(), ids=lambda tree: f"seed{tree['seed']}")
def test_the_official_values(golden: dict[str, Any], value: Any) -> None:
    tree = draw(golden["parent"], golden["entropy"])
    assert [node.leaf for node in tree.nodes] == golden["is_leaf"]
    rewards = {int(leaf): reward for leaf, reward in golden["reward"].items()}
    np.testing.assert_allclose(TurnCredit(value).values(tree, rewards), golden["values"][value], rtol=0, atol=1e-12)


#   0 ── 1 ── 2*  r = 1      H(2) = ln 3, H(3) = 0: softmax weights 3/4 and 1/4
#   │    └─── 3*  r = 0      H(1) = ln 2, H(4) = 0: softmax weights 2/3 and 1/3
#   └─── 4*       r = −1     mean 0, population variance 2/3
DRAWN = draw([-1, 0, 1, 1, 0], [0, math.log(2), math.log(3), 0, 0])
REWARDS = {2: 1.0, 3: 0.0, 4: -1.0}
Z = 1 / (math.sqrt(2 / 3) + 1e-6)

BY_HAND = {  # V of nodes 0 … 4, in units of Z
    "child_softmax": [2 / 3 * 3 / 4 - 1 / 3, 3 / 4, 1, 0, -1],
    "child_mean": [1 / 2 * 1 / 2 - 1 / 2, 1 / 2, 1, 0, -1],
    "leaf_mean": [2 / 3 * 1 / 2 - 1 / 3, 1 / 2, 1, 0, -1],
}


@pytest.mark.parametrize("value", VALUES)
def test_hand_worked_values(value: Any) -> None:
    by_hand = np.array(BY_HAND[value]) * Z
    np.testing.assert_allclose(TurnCredit(value).values(DRAWN, REWARDS), by_hand, atol=1e-15)


@pytest.mark.parametrize(
    ("advantage", "by_hand"),
    [  # V = 1/6, 3/4, 1, 0, −1 under child_softmax; leaves 2, 3, 4
        ("node_value", [[3 / 4, 1], [3 / 4, 0], [-1]]),
        ("diff_parent", [[7 / 12, 1 / 4], [7 / 12, -3 / 4], [-7 / 6]]),
        ("diff_global", [[7 / 12, 5 / 6], [7 / 12, -1 / 6], [-7 / 6]]),
        ("diff_local_global", [[14 / 12, 13 / 12], [14 / 12, -11 / 12], [-14 / 6]]),
    ],
)
def test_hand_worked_advantages(advantage: Any, by_hand: list[list[float]]) -> None:
    credited = TurnCredit(advantage=advantage)(DRAWN, REWARDS)
    assert [len(path) for path in credited] == [2, 2, 1]
    for path, expected in zip(credited, by_hand, strict=True):
        assert path == pytest.approx([a * Z for a in expected])


@given(credited_trees())
def test_a_value_is_an_average_of_leaf_scores(case: tuple[TurnTree, dict[int, float]]) -> None:
    tree, rewards = case
    z = z_scores(np.array([rewards[leaf] for leaf in tree.leaves]), "population")
    for value in VALUES:
        values = TurnCredit(value).values(tree, rewards)
        assert z.min() - 1e-9 <= values.min() and values.max() <= z.max() + 1e-9
        if value == "leaf_mean":
            assert values[ROOT] == pytest.approx(0, abs=1e-9)  # the mean of z


@given(credited_trees())
def test_differences_to_the_parent_add_up_to_the_leaf_score(case: tuple[TurnTree, dict[int, float]]) -> None:
    tree, rewards = case
    for value in VALUES:
        values = TurnCredit(value).values(tree, rewards)
        for leaf, path in zip(tree.leaves, TurnCredit(value, "diff_parent")(tree, rewards), strict=True):
            assert sum(path) == pytest.approx(values[leaf] - values[ROOT], abs=1e-9)


@given(credited_trees(), st.floats(0.5, 20), st.floats(-5, 5))
def test_credit_does_not_depend_on_the_scale_of_rewards(
    case: tuple[TurnTree, dict[int, float]], scale: float, shift: float
) -> None:
    tree, rewards = case
    moved = {leaf: scale * reward + shift for leaf, reward in rewards.items()}
    if len({*rewards.values()}) == len({*moved.values()}):
        for credit in (TurnCredit(), LeafCredit()):
            for before, after in zip(credit(tree, rewards), credit(tree, moved), strict=True):
                assert after == pytest.approx(before, abs=2e-5)  # not exactly: 1e−6 is added to the std


def test_large_entropies_do_not_overflow() -> None:
    tree = draw([-1, 0, 0], [0, 2000.0, 1999.0])
    values = TurnCredit().values(tree, {1: 1.0, 2: 0.0})
    assert values[ROOT] == pytest.approx(math.tanh(0.5), rel=1e-5)  # (e − 1) / (e + 1)


# --- reductions ----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 4), min_size=2, max_size=6), st.data())
def test_without_branching_every_value_form_is_the_group_z_score(lengths: list[int], data: st.DataObject) -> None:
    parents = [-1]
    for length in lengths:
        parents += [ROOT, *range(len(parents), len(parents) + length - 1)]
    tree = draw(parents, [data.draw(st.floats(0, 3)) for _ in parents])
    rewards = {leaf: data.draw(st.sampled_from([-1.0, 0.0, 1.0])) for leaf in tree.leaves}
    r = np.array(list(rewards.values()))
    z = (r - r.mean()) / (r.std() + 1e-6) if len(set(r)) > 1 else 0 * r
    for value in VALUES:
        for leaf_z, path in zip(z, TurnCredit(value)(tree, rewards), strict=True):
            assert path == pytest.approx([leaf_z] * len(path), abs=1e-12)
    assert LeafCredit()(tree, rewards) == TurnCredit()(tree, rewards)


@given(credited_trees(), st.floats(0, 3))
def test_with_equal_entropies_softmax_is_the_mean(case: tuple[TurnTree, dict[int, float]], entropy: float) -> None:
    tree, rewards = case
    for node in tree.nodes[1:]:
        node.logp = (-entropy,)
    softmax, mean = (TurnCredit(value).values(tree, rewards) for value in ("child_softmax", "child_mean"))
    np.testing.assert_allclose(softmax, mean, atol=1e-12)


@given(credited_trees(), st.sampled_from([-1.0, 0.0, 0.1, 1 / 3, 1.0]), st.sampled_from(EVERY_CREDIT))
def test_equal_rewards_give_exactly_zero(case: tuple[TurnTree, Any], reward: float, credit: Credit) -> None:
    tree, _ = case
    advantages = credit(tree, dict.fromkeys(tree.leaves, reward))
    assert [len(path) for path in advantages] == [len(path) for _, path in tree.trajectories()]
    assert all(a == 0 for path in advantages for a in path)


# --- the rivals ----------------------------------------------------------------------------------------------------


def test_leaf_credit_gives_a_shared_turn_another_value_on_every_leaf() -> None:
    half = 0.5 / (0.5 + 1e-6)
    tree = draw([-1, 0, 1, 1])  # one first turn, two answers
    assert LeafCredit()(tree, {2: 1.0, 3: 0.0}) == [pytest.approx([half] * 2), pytest.approx([-half] * 2)]
    unbiased = 0.5 / (math.sqrt(0.5) + 1e-6)
    assert LeafCredit("unbiased")(tree, {2: 1.0, 3: 0.0})[0] == pytest.approx([unbiased] * 2)


#   group 0: 0 ─ 1 ─ 2* r = 1     group 1: 0 ─ 4* r = 1     group 2: 0 ─ 6* r = 0, its only leaf
#                └── 3* r = 0              0 ─ 5* r = 1
FOREST = draw([-1, 0, 1, 1, 0, 0, 0], groups=[-1, 0, 0, 0, 1, 1, 2])
FOREST_REWARDS = {2: 1.0, 3: 0.0, 4: 1.0, 5: 1.0, 6: 0.0}


def test_tree_grpo_adds_the_score_inside_the_tree_and_among_all_leaves() -> None:
    # among all: mean 3/5, unbiased variance (3·(2/5)² + 2·(3/5)²)/4 = 3/10;  inside group 0: mean 1/2, variance 1/2
    up, down = 0.4 / (math.sqrt(0.3) + 1e-6), -0.6 / (math.sqrt(0.3) + 1e-6)
    inside = 0.5 / (math.sqrt(0.5) + 1e-6)
    credited = TreeGRPOCredit()(FOREST, FOREST_REWARDS)
    by_hand = [[up + inside] * 2, [down - inside] * 2, [up], [up], [down]]
    assert [pytest.approx(path) for path in by_hand] == credited  # node 1 is worth +1.44 on leaf 2, −1.80 on leaf 3


def test_nested_tree_grpo_standardises_the_group_scores_again_inside_each_tree() -> None:
    up, down = 0.4 / (math.sqrt(0.3) + 1e-6), -0.6 / (math.sqrt(0.3) + 1e-6)
    inside = (up - down) / 2 / ((up - down) / math.sqrt(2) + 1e-6)
    credited = TreeGRPOCredit(nested=True)(FOREST, FOREST_REWARDS)
    by_hand = [[inside] * 2, [-inside] * 2, [0], [0], [0]]
    assert [
        pytest.approx(path, rel=1e-9) for path in by_hand
    ] == credited  # only the 1e−6 in the std tells it from z once


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rewards", [{2: 1.0, 3: 0.0}, {1: 1.0, 2: 1.0, 3: 0.0, 4: 0.0}])
@pytest.mark.parametrize("credit", [TurnCredit(), LeafCredit(), TreeGRPOCredit()])
def test_rewards_must_be_those_of_the_leaves(credit: Credit, rewards: dict[int, float]) -> None:
    with pytest.raises(ValueError, match=r"nodes \[[14]\] differ"):
        credit(DRAWN, rewards)


def test_a_tree_that_was_not_pruned_is_refused() -> None:
    tree = draw([-1, 0, 0])
    tree.add(TurnNode(parent=ROOT, group=2, depth=1, action=(1,), logp=(-1.0,)))
    with pytest.raises(ValueError, match="node 3 leads to no leaf"):
        TurnCredit()(tree, {1: 1.0, 2: 0.0})
    tree.prune()
    assert TurnCredit()(tree, {1: 1.0, 2: 0.0})[0][0] == pytest.approx(1, rel=1e-5)
