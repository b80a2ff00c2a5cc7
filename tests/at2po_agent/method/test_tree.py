"""The tree of turns: prompts along paths, pruning, and trees that are stored and opened again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.method.tree import ROOT, Branch, TurnNode, TurnTree
from tests.helpers.drawn_trees import draw


def turn(parent: int, *action: int, leaf: bool = False, observation: tuple[int, ...] = ()) -> TurnNode:
    return TurnNode(parent, 0, 1, action, (-1.0,) * len(action), observation, leaf=leaf)


def test_siblings_are_sampled_from_the_same_prompt() -> None:
    tree = TurnTree(prompt=(1, 2))
    first = tree.add(turn(ROOT, 3, 4, observation=(5,)))
    second = tree.add(turn(first, 6, observation=(7, 8)))
    leaf, sibling = tree.add(turn(second, 9, leaf=True)), tree.add(turn(second, 10, leaf=True))
    assert tree.prompt_ids(ROOT) == (1, 2)
    assert tree.prompt_ids(second) == (1, 2, 3, 4, 5, 6, 7, 8)
    assert tree.path(leaf) == [first, second, leaf] and tree.path(sibling) == [first, second, sibling]
    assert list(tree.trajectories()) == [(leaf, [1, 2, 3]), (sibling, [1, 2, 4])]
    assert tree.inner_turns() == [first, second]


def test_entropy_is_the_mean_surprise_of_the_turns_own_tokens() -> None:
    tree = TurnTree(prompt=(1, 2))
    assert tree[ROOT].entropy == 0
    assert TurnNode(ROOT, 0, 1, (3, 4), (-0.5, -1.5)).entropy == 1.0


def test_impossible_turns_are_refused() -> None:
    tree = draw([-1, 0])
    with pytest.raises(ValueError, match="at least one generated token"):
        tree.add(turn(ROOT))
    with pytest.raises(ValueError, match="node 1 is a leaf"):
        tree.add(turn(1, 3))


def test_prune_removes_what_leads_to_no_leaf_and_renumbers_the_rest() -> None:
    #   0 ── 1 (died)          kept: 0, 2, 4, 5, 6 → 0, 1, 2, 3, 4
    #   ├─── 2 ── 3 (died)
    #   │    └─── 4 ── 6*
    #   └─── 5*
    tree = TurnTree(prompt=(1, 2))
    for parent, leaf in [(0, False), (0, False), (2, False), (2, False), (0, True), (4, True)]:
        tree.add(turn(parent, len(tree), leaf=leaf))
    tree.proposals = [(Branch(0, 0), Branch(0, 1), Branch(0, 2)), (Branch(1, 0),), (Branch(3, 1), Branch(2, 1))]
    tree.fresh = (3, 6)
    assert tree.prune() == 2
    assert [node.action for node in tree.nodes] == [(), (2,), (4,), (5,), (6,)]
    assert [node.parent for node in tree.nodes] == [-1, 0, 1, 0, 2]
    assert [node.children for node in tree.nodes] == [[1, 3], [2], [4], [], []]
    assert tree.proposals == [(Branch(0, 0), Branch(0, 1), Branch(0, 2)), (Branch(1, 1),)]
    assert tree.fresh == (4,)
    assert tree.prune() == 0


def test_prune_leaves_the_root_where_nothing_ended_and_waits_for_open_paths() -> None:
    tree = TurnTree(prompt=(1,))
    tree.add(turn(ROOT, 2))
    tree.open_paths = 1
    with pytest.raises(ValueError, match="1 paths are still open"):
        tree.prune()
    tree.open_paths = 0
    assert tree.prune() == 1
    assert len(tree) == 1 and tree[ROOT].children == []


@given(st.data())
def test_pruning_keeps_every_trajectory_as_it_was(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 15))
    tree = draw([-1, *(data.draw(st.integers(0, i - 1)) for i in range(1, n))])
    for leaf in tree.leaves:
        tree[leaf].leaf = data.draw(st.booleans())  # some paths died
    before = [[tree[n].action for n in path] for _, path in tree.trajectories()]
    size = len(tree)
    assert tree.prune() == size - len(tree)
    assert [[tree[n].action for n in path] for _, path in tree.trajectories()] == before
    for i, node in enumerate(tree.nodes[1:], start=1):
        assert node.leaf or node.children
        assert i in tree[node.parent].children and node.parent < i


def stored_tree() -> TurnTree:
    tree = TurnTree(prompt=(1, 2), snapshot=("s", 0), question_id="q-7")
    inner = TurnNode(ROOT, 0, 1, (3, 4), (-0.1, -1 / 3), (5, 6), ("s", 1), top_logprobs=(((3, -0.1), (9, -2.5)),) * 2)
    info = {"em": 1.0, "f1": 1.0, "prediction": "Zürich"}
    tree.add(inner)
    tree.add(
        TurnNode(
            1,
            0,
            2,
            (7,),
            (-0.2,),
            (),
            ("s", 2),
            leaf=True,
            reward=1.0,
            ended="answer",
            version=3,
            straddles=True,
            info=info,
        )
    )
    tree.proposals, tree.fresh = [(Branch(ROOT, 0),)], (2,)
    return tree


def test_a_stored_tree_opens_as_it_was_after_a_trip_through_json() -> None:
    tree = stored_tree()
    text = json.dumps(tree.to_json(encode_snapshot=list))
    opened = TurnTree.from_json(json.loads(text), decode_snapshot=tuple)
    assert opened.nodes == tree.nodes
    assert vars(opened) == vars(tree)
    assert opened.prompt_ids(1) == tree.prompt_ids(1)


def test_without_a_codec_everything_but_the_snapshots_is_stored() -> None:
    tree = stored_tree()
    opened = TurnTree.from_json(json.loads(json.dumps(tree.to_json())))
    for node in tree.nodes:
        node.snapshot = None
    assert opened.nodes == tree.nodes


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda stored: stored.pop("nodes"), "nodes"),
        (lambda stored: stored["nodes"][1].pop("logp"), "logp"),
        (lambda stored: stored["nodes"][2].update(parent=9), "IndexError"),
        (lambda stored: stored["nodes"][2].update(action=[]), "at least one generated token"),
        (lambda stored: stored["nodes"].clear(), "not a stored tree"),
    ],
)
def test_what_is_not_a_stored_tree_is_refused(damage, message: str) -> None:
    stored = json.loads(json.dumps(stored_tree().to_json()))
    damage(stored)
    with pytest.raises(ValueError, match=message):
        TurnTree.from_json(stored)
