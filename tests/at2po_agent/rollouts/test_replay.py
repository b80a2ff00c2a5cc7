"""Stored trees that are taken again: the same states, and new paths from them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from at2po_agent.method.tree import ROOT, TurnTree
from at2po_agent.rollouts.grow import Actor, Limits, grow
from at2po_agent.rollouts.replay import Refork, ReplayError, replay
from search_backend.base import SearchUnavailable
from tests.helpers.toys import Bytes, ChainsThenBranches, Scripted, ToyEnv


def grown(seed: int) -> TurnTree:
    env = ToyEnv()
    env.reset(options={"task_id": "q"})
    return asyncio.run(grow(env, Actor(Scripted(), Bytes()), ChainsThenBranches(), key=(seed,), question_id="q"))


def again(tree: TurnTree, fail: Callable[[str], bool] = lambda action: False):
    env = ToyEnv(fail=fail)
    env.reset(options={"task_id": "q"})
    return env, asyncio.run(replay(env, Actor(Scripted(), Bytes(), limits=Limits(retries=1, retry_seconds=0.0)), tree))


@pytest.mark.parametrize("seed", range(4))
def test_every_inner_turn_is_at_the_state_that_it_was_at(seed):
    tree = grown(seed)
    _, (planted, new) = again(TurnTree.from_json(tree.to_json()))
    assert list(new) == [ROOT, *tree.inner_turns()]
    for old, index in new.items():
        assert planted.tree[index].snapshot == tree[old].snapshot
        assert planted.tree.prompt_ids(index) == tree.prompt_ids(old)


def test_new_paths_begin_at_the_nodes_that_are_forked():
    tree = grown(1)
    env, (planted, new) = again(TurnTree.from_json(tree.to_json()))
    nodes, before = list(new.values()), len(planted.tree)
    actor = Actor(Scripted(), Bytes())
    forked = asyncio.run(grow(env, actor, Refork(nodes, 3), key=(9,), question_id="q", planted=planted))
    assert len(forked.leaves) == 3 * len(nodes) == Refork(nodes, 3).leaves
    for leaf, path in forked.trajectories():
        first = next(n for n in path if n >= before)
        assert forked[first].parent == nodes[forked[leaf].group]
        assert forked[leaf].reward == float(bytes(forked[leaf].action).decode() == "a!")


def test_an_environment_that_answers_otherwise_is_refused():
    tree = grown(1)
    inner = tree.inner_turns()[0]
    tree[inner].observation = (1, 2, 3)
    with pytest.raises(ReplayError, match=f"question 'q': turn {inner} of its stored tree has another observation now"):
        again(tree)
    tree[ROOT].observation = (1,)
    with pytest.raises(ReplayError, match="another prompt"):
        again(tree)


def test_a_search_that_comes_back_is_waited_for():
    tree = grown(1)
    failures = iter([True])
    _, (planted, new) = again(tree, lambda action: next(failures, False))
    assert list(new) == [ROOT, *tree.inner_turns()] and planted.tree[1].snapshot == tree[tree.inner_turns()[0]].snapshot
    with pytest.raises(SearchUnavailable):
        again(tree, lambda action: True)
