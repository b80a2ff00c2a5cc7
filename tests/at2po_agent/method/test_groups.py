"""Dynamic sampling: which groups are kept, what is counted, and which questions come next."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.method.groups import AllGroups, DynamicSampling, Groups, Rollout, draw_questions, has_unequal_rewards
from at2po_agent.method.tree import ROOT, TurnNode, TurnTree


def group(name: str, *rewards: float | None) -> TurnTree:
    """A group of one-turn chains of three tokens; infrastructure ended those without a reward."""
    tree = TurnTree(prompt=(1,), question_id=name)
    for g, reward in enumerate(rewards):
        tree.add(TurnNode(ROOT, g, 1, (5, 6, 7), (-1.0,) * 3, leaf=reward is not None, reward=reward))
    return tree


def collected(groups: Groups, world: list[TurnTree], wanted: int) -> tuple[Rollout, list[int]]:
    """What ``groups`` collects from questions whose trees are ``world``, and where each batch began."""
    asked = []

    async def grow(first: int) -> Rollout:
        asked.append(first)
        return Rollout(tuple(world[first : first + wanted]), {f"long {first}": "too long"}, 1, wanted)

    return asyncio.run(groups.collect(grow, wanted)), asked


WORLD = [
    group("all right", 1, 1),
    group("a", 1, 0),
    group("one lost", 1, None),
    group("b", -1, 0, 0),
    group("all wrong", 0, 0),
    group("c", 0, 1),
    group("d", 0, 1),
    group("e", 0, 1),
    group("f", 0, 1),
]


def test_equal_groups_are_left_out_and_further_questions_fill_the_batch() -> None:
    found, asked = collected(DynamicSampling(), WORLD, 3)
    assert asked == [0, 3]  # one refill was enough
    assert [tree.question_id for tree in found.trees] == ["a", "b", "c"]
    assert [tree.question_id for tree in found.equal] == ["all right", "one lost", "all wrong"]
    assert found.surplus == () and found.questions == 6 and found.lost_paths == 2
    assert list(found.dropped) == ["long 0", "long 3"]
    assert found.unused_tokens == 3 * (2 + 2 + 2) and found.generated_tokens == 3 * (2 + 2 + 2 + 2 + 3 + 2)


def test_what_is_found_beyond_a_full_batch_is_left_out_and_counted() -> None:
    found, asked = collected(DynamicSampling(), WORLD, 4)
    assert asked == [0, 4]
    assert [tree.question_id for tree in found.trees] == ["a", "b", "c", "d"]
    assert [tree.question_id for tree in found.surplus] == ["e"]
    assert found.unused_tokens == 3 * (2 + 2 + 2 + 2)


def test_the_number_of_batches_is_bounded_and_what_was_found_is_used() -> None:
    found, asked = collected(DynamicSampling(max_batches=2), [group(str(i), 1, 1) for i in range(99)], 3)
    assert asked == [0, 3] and found.trees == () and len(found.equal) == 6
    found, _ = collected(DynamicSampling(max_batches=1), WORLD, 3)
    assert [tree.question_id for tree in found.trees] == ["a"]


def test_without_dynamic_sampling_one_batch_is_taken_as_it_is() -> None:
    found, asked = collected(AllGroups(), WORLD, 3)
    assert asked == [0] and found.trees == tuple(WORLD[:3]) and found.unused_tokens == 0


def test_a_group_counts_by_its_scored_leaves() -> None:
    assert has_unequal_rewards(group("", 1, 0, None))
    assert not has_unequal_rewards(group("", 1, None))
    assert not has_unequal_rewards(group("", None))


@given(st.integers(1, 9), st.integers(0, 40), st.lists(st.integers(0, 9), max_size=6), st.integers(0, 5))
def test_the_questions_are_a_function_of_the_position(n: int, first: int, sizes: list[int], seed: int) -> None:
    ids = [f"q{i}" for i in range(n)]
    pieces, at = [], first
    for size in sizes:
        pieces += draw_questions(ids, seed, at, size)
        at += size
    assert pieces == draw_questions(ids, seed, first, at - first)
    epochs = draw_questions(ids, seed, 0, 3 * n)
    assert Counter(epochs) == dict.fromkeys(ids, 3)
    assert all(set(epochs[i * n : (i + 1) * n]) == set(ids) for i in range(3))


def test_a_bound_that_samples_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="max_batches is 0"):
        DynamicSampling(max_batches=0)


def test_a_search_whose_answer_did_not_fit_was_a_call() -> None:
    tree = group("q", 1, -1, -1)
    for leaf, ended in zip(tree.leaves, ("answer", "length_limit", "turn_limit"), strict=True):
        tree[leaf].ended = ended
    tree.add(TurnNode(ROOT, 3, 1, (5,), (-1.0,), (6,)))
    assert Rollout((tree,), {}, 0, 1).calls == 2
