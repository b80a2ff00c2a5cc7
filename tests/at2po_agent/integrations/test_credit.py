"""Credit of another trainer's trajectories: the tree that their tokens make, and the numbers of the credits."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from at2po_agent.integrations import Trajectory, padded_advantages, token_advantages, tree_of, turn_credit
from at2po_agent.method.credit import Credit, LeafCredit, TreeGRPOCredit, TurnCredit
from tests.helpers.drawn_trees import draw, golden_trees
from tests.helpers.trajectories import trajectories_of

CREDITS: list[Credit] = [
    TurnCredit(),
    TurnCredit("leaf_mean", "diff_local_global"),
    LeafCredit("unbiased"),
    TreeGRPOCredit(),
]


@pytest.mark.parametrize("credit", CREDITS, ids=lambda credit: repr(credit))
@pytest.mark.parametrize("given", [False, True], ids=["found", "given"])
@pytest.mark.parametrize("golden", golden_trees(), ids=lambda tree: f"seed{tree['seed']}")
def test_the_credit_of_the_official_trees(golden: dict[str, Any], given: bool, credit: Credit) -> None:
    tree = draw(golden["parent"], golden["entropy"])
    rewards = {int(leaf): reward for leaf, reward in golden["reward"].items()}
    ours = turn_credit(trajectories_of(tree, rewards, given), credit)
    for values, expected in zip(ours, credit(tree, rewards), strict=True):
        assert values == pytest.approx(expected, rel=1e-12, abs=1e-12)


def trajectory(text: str, reward: float, **more: Any) -> Trajectory:
    """Capitals are generated, and each is as likely as its place in the alphabet says."""
    ids = [ord(letter) for letter in text]
    mask = [letter.isupper() for letter in text]
    logp = [-math.log(1 + ord(letter) - ord("A")) if letter.isupper() else math.nan for letter in text]
    return Trajectory(ids, mask, logp, reward, **more)


def test_turns_are_shared_up_to_the_observation_and_leaves_never() -> None:
    group = [
        trajectory("pABoCD", 1),
        trajectory("pABoE", 0),  # shares AB
        trajectory("pABqCD", 0),  # another observation: another turn
        trajectory("pAB", -1),  # ends where others go on: a leaf of its own
        trajectory("pABoE", 1),  # the same text twice: two leaves
    ]
    tree = tree_of(group)
    assert [node.parent for node in tree.nodes] == [-1, 0, 1, 1, 0, 4, 0, 1]
    assert [tree[leaf].reward for leaf in tree.leaves] == [1, 0, 0, -1, 1]
    assert tree[0].observation == (ord("p"),)
    assert tree[1].entropy == pytest.approx(math.log(2) / 2)


def test_a_given_tree_keeps_equal_siblings_apart() -> None:
    texts = ["pAoB", "pAoC"]
    found = [trajectory(text, reward) for text, reward in zip(texts, (1.0, 0.0), strict=True)]
    assert len(tree_of(found)) == 4
    given = [dataclasses.replace(one, turn_ids=[0, 10 * k + 1, 0, 10 * k + 2]) for k, one in enumerate(found)]
    assert [node.parent for node in tree_of(given).nodes] == [-1, 0, 1, 0, 3]
    with pytest.raises(ValueError, match="two places"):
        tree_of([found[0], dataclasses.replace(given[0], turn_ids=[0, 5, 0, 5])])


def test_adjacent_turns_are_told_apart_by_their_ids() -> None:
    merged, other = trajectory("pABC", 1), trajectory("pABD", 0)
    assert [len(path) for _, path in tree_of([merged, other]).trajectories()] == [1, 1]
    apart = [dataclasses.replace(merged, turn_ids=[0, 1, 1, 2]), dataclasses.replace(other, turn_ids=[0, 1, 1, 3])]
    assert [node.parent for node in tree_of(apart).nodes] == [-1, 0, 1, 1]
    first, second = token_advantages(apart)
    assert first[0] == 0
    # H = ln 3 and ln 4, so the children weigh 3/7 and 4/7, and their z are 1 and -1
    assert first[1] == first[2] == second[1] == pytest.approx(-1 / 7, abs=1e-5)


def test_advantages_of_padded_rows() -> None:
    group = ["q1", "q2", "q1", "q1", "q2"]
    texts = ["ABoC  ", "A     ", "ABoDE ", "      ", "B  C  "]
    rewards = torch.tensor([1.0, 1.0, 0.0, 5.0, 0.0])
    ids = torch.tensor([[ord(letter) for letter in text] for text in texts])
    mask = (ids >= ord("A")) & (ids <= ord("Z"))
    logp = torch.full(ids.shape, -1.0)
    shared = padded_advantages(rewards, mask, group, ids, logp)
    assert shared.dtype == rewards.dtype
    expected = turn_credit([trajectory("ABoC", 1), trajectory("ABoDE", 0)], TurnCredit("child_mean"))
    assert shared[0].tolist() == pytest.approx([expected[0][0]] * 2 + [0, expected[0][1], 0, 0])
    assert shared[2].tolist() == pytest.approx([expected[1][0]] * 2 + [0] + [expected[1][1]] * 2 + [0])
    assert not shared[3].any()  # without generated tokens, and in nobody's mean
    # without ids every row is a chain, whose turns have the trajectory's z
    chains = padded_advantages(rewards, mask, group)
    np.testing.assert_allclose(chains[[0, 2]], [[1, 1, 0, 1, 0, 0], [-1, -1, 0, -1, -1, 0]], atol=1e-5)
    np.testing.assert_allclose(chains[[1, 4]], [[1, 0, 0, 0, 0, 0], [-1, 0, 0, -1, 0, 0]], atol=1e-5)
    with pytest.raises(ValueError, match="needs logp beside ids"):
        padded_advantages(rewards, mask, group, ids)


def test_what_is_no_group_is_said() -> None:
    with pytest.raises(ValueError, match="different prompts"):
        tree_of([trajectory("pA", 1), trajectory("qA", 0)])
    with pytest.raises(ValueError, match="no generated token"):
        trajectory("pp", 1)
    with pytest.raises(ValueError, match=r"3 ids, but other lengths of \{'logp': 1\}"):
        Trajectory([1, 2, 3], [0, 1, 1], [-1.0], 1.0)
    with pytest.raises(ValueError, match="without trajectories"):
        tree_of([])
