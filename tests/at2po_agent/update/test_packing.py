"""Packing: the layout of a hand-drawn tree, the token budget, and what is refused."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from at2po_agent.method.tree import ROOT, TurnNode, TurnTree
from at2po_agent.update.packing import collate, pack_tree, plan
from tests.helpers.random_trees import credited, random_tree


def drawn() -> TurnTree:
    """Prompt 1 2; turn 3 4 → observation 5; below it leaves 6 and 7 8; beside it a leaf 3 9 that repeats token 3."""
    tree = TurnTree((1, 2), question_id="drawn")
    turn = tree.add(TurnNode(ROOT, 0, 1, (3, 4), (-0.1, -0.2), (5,)))
    tree.add(TurnNode(turn, 0, 2, (6,), (-0.3,), leaf=True))
    tree.add(TurnNode(ROOT, 1, 1, (3, 9), (-0.4, -0.5), leaf=True))
    tree.add(TurnNode(turn, 0, 2, (7, 8), (-0.6, -0.7), leaf=True))
    return tree


def visible(ends: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """``[T, T]``: whether the token of the row may see that of the column."""
    at = np.arange(len(ends))
    return (at[None, :] <= at[:, None]) & (at[:, None] < ends[None, :])


def test_the_drawn_tree_is_laid_out_depth_first_and_shares_what_repeats() -> None:
    packed = pack_tree(drawn(), [[1.0, 2.0], [3.0], [4.0, 5.0]])
    # 1 2 3 4 5 7: the leaves' last tokens 6, 9 and 8 are only predicted, and the second chain's 3 is the first's.
    assert packed.ids.tolist() == [1, 2, 3, 4, 5, 7]
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 5]
    assert packed.ends.tolist() == [6] * 6
    tokens = list(zip(packed.ids[packed.predictors].tolist(), packed.targets.tolist(), strict=True))
    assert [tokens[i] for i in packed.rows] == [(2, 3), (3, 4), (5, 6), (2, 3), (3, 9), (2, 3), (3, 4), (5, 7), (7, 8)]
    assert packed.sequence_ids.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert packed.turn_ids.tolist() == [0, 0, 1, 2, 2, 3, 3, 4, 4]
    assert packed.advantage.tolist() == [1, 1, 2, 3, 3, 4, 4, 5, 5]
    assert packed.logp_old.tolist() == [-0.1, -0.2, -0.3, -0.4, -0.5, -0.1, -0.2, -0.6, -0.7]
    assert (packed.n_sequences, packed.n_turns, packed.n_tokens) == (3, 5, 9)


def test_a_branch_does_not_see_its_sibling_and_counts_positions_on_its_own_path() -> None:
    tree = TurnTree((1,))
    tree.add(TurnNode(ROOT, 0, 1, (2, 3), (-1.0, -1.0), leaf=True))
    tree.add(TurnNode(ROOT, 1, 1, (4, 5, 6), (-1.0, -1.0, -1.0), leaf=True))
    packed = pack_tree(tree, [[1.0], [1.0]])
    assert packed.ids.tolist() == [1, 2, 4, 5]
    assert packed.positions.tolist() == [0, 1, 1, 2]
    seen = visible(packed.ends).astype(int).tolist()
    assert seen == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]
    assert packed.ids[packed.predictors[packed.rows]].tolist() == [1, 2, 1, 4, 5]  # 4 is predicted by the prompt


def test_trees_of_one_batch_do_not_see_each_other() -> None:
    trees = [pack_tree(drawn(), [[0.0] * 2, [0.0], [0.0] * 2]) for _ in range(3)]
    batch = collate(trees)
    seen = visible(batch.ends.numpy())
    assert not any(seen[i, j] for i in range(18) for j in range(18) if i // 6 != j // 6)
    assert batch.ids[batch.predictors].tolist() == 3 * trees[0].ids[trees[0].predictors].tolist()
    assert batch.sequence_ids.unique().tolist() == list(range(9))
    assert batch.turn_ids.unique().tolist() == list(range(15))


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_every_row_reads_back_as_its_trajectory(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, chains=3, branches=3)
    packed = pack_tree(*credited(rng, tree))
    mask = visible(packed.ends)
    assert len({tuple(packed.ids[row]) for row in mask}) == len(packed.ids)  # no context is forwarded twice
    rows = iter(range(packed.n_tokens))
    for sequence, (_, path) in enumerate(tree.trajectories()):
        for index in path:
            prompt = tree.prompt_ids(tree[index].parent)
            for t, token in enumerate(tree[index].action):
                row = next(rows)
                slot = packed.rows[row]
                context = mask[packed.predictors[slot]]
                assert packed.targets[slot] == token and packed.sequence_ids[row] == sequence
                assert tuple(packed.ids[context]) == prompt + tree[index].action[:t]
                assert packed.positions[context].tolist() == list(range(int(context.sum())))
    assert next(rows, None) is None


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 200))
def test_a_plan_holds_every_tree_once_within_the_budget(sizes: list[int], budget: int) -> None:
    batches = plan(sizes, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(sizes)))
    assert all(sum(sizes[i] for i in batch) <= budget or len(batch) == 1 for batch in batches)


def test_small_trees_fill_what_large_ones_leave() -> None:
    assert plan([10, 4, 5, 9, 1], 15) == [[0, 2], [3, 1, 4]]


def test_what_does_not_fit_is_refused_with_the_tree_named() -> None:
    with pytest.raises(ValueError, match=r"'drawn' has \[2, 1, 2\] turns .* but \[2, 1\]"):
        pack_tree(drawn(), [[1.0, 1.0], [1.0]])
    with pytest.raises(ValueError, match="no scored leaf"):
        pack_tree(TurnTree((1, 2)), [])
    tree = TurnTree((1,), question_id="chat")
    tree.add(TurnNode(ROOT, 0, 1, (2, 3), leaf=True))
    with pytest.raises(ValueError, match=r"'chat': node 1 lacks log-probabilities"):
        pack_tree(tree, [[1.0]])
