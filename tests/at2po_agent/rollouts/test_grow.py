import asyncio
from dataclasses import dataclass

import pytest

from at2po_agent.method.expansion import Chains
from at2po_agent.method.tree import TurnTree
from at2po_agent.policy.base import PolicyUnavailable
from at2po_agent.rollouts.grow import Actor, Limits, PromptTooLong, grow
from tests.helpers.env_doubles import make_env
from tests.helpers.toys import (
    BranchEveryFirstTurn,
    Bytes,
    ChainsThenBranches,
    OpensThoughts,
    Recites,
    Scripted,
    ToyEnv,
)

FAST = Limits(retries=2, retry_seconds=0.001)


def run_grow(env: ToyEnv, policy: Scripted, expansion, limits=FAST, lockstep=False, **kwargs) -> TurnTree:
    actor = Actor(policy, Bytes(), limits=limits, deterministic=lockstep)
    return asyncio.run(grow(env, actor, expansion, **kwargs))


@pytest.mark.parametrize("expansion", [ChainsThenBranches(), BranchEveryFirstTurn()])
@pytest.mark.parametrize("lockstep", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_every_proposed_path_ends_in_one_leaf_and_tokens_are_those_of_the_transport(expansion, lockstep, seed):
    policy = Scripted()
    tree = run_grow(ToyEnv(), policy, expansion, key=(seed,), lockstep=lockstep)
    assert len(tree.leaves) == tree.started == sum(len(p) for p in tree.proposals)
    sent = {(request.prompt, completion.ids) for request, completion in policy.completions}
    for _leaf, path in tree.trajectories():
        for node in path:
            assert (tree.prompt_ids(tree[node].parent), tree[node].action) in sent
            # what the environment saw is what the tree says
        actions = tuple(bytes(tree[node].action).decode() for node in path)
        assert tree[path[-1]].snapshot == ("q", *actions)


def test_branching_happens_while_other_paths_are_still_open():
    opened = []

    @dataclass(frozen=True)
    class Spy(BranchEveryFirstTurn):
        def propose(self, tree, rng):
            branches = super().propose(tree, rng)
            opened.append((tree.open_paths, len(branches)))
            return branches

    run_grow(ToyEnv(), Scripted(), Spy(), key=(1,), lockstep=True)
    assert any(open_paths > 0 and branches > 0 for open_paths, branches in opened)


def test_the_reward_of_a_leaf_is_the_sum_on_its_path_and_inner_nodes_have_none():
    tree = run_grow(ToyEnv(), Scripted(), ChainsThenBranches(), key=(3,))
    for i, node in enumerate(tree.nodes):
        if node.leaf:
            assert node.reward == float(bytes(node.action) == b"a!")
        else:
            assert node.reward is None, i


def test_length_limit_makes_the_last_turn_a_leaf_that_counts_as_unanswered():
    limits = Limits(max_response_tokens=8, retries=0)  # s0! + <s0!> = 8: no room for another token
    tree = run_grow(ToyEnv(), Scripted(), ChainsThenBranches(), key=(3,), limits=limits)
    cut = [tree[leaf] for leaf in tree.leaves if tree[leaf].ended == "length_limit"]
    assert cut and all(node.reward == -1.0 and node.depth == 1 and node.observation == () for node in cut)


def test_the_models_context_bounds_a_path_as_a_length_limit_does():
    limits = Limits(max_context_tokens=11, retries=0)  # <q> + s0! + <s0!> = 11: no room for another token
    policy = Scripted()
    tree = run_grow(ToyEnv(), policy, ChainsThenBranches(), key=(3,), limits=limits)
    cut = [tree[leaf] for leaf in tree.leaves if tree[leaf].ended == "length_limit"]
    assert cut and all(node.reward == -1.0 and node.depth == 1 for node in cut)
    assert all(len(request.prompt) + request.max_new_tokens <= 11 for request, _ in policy.completions)
    with pytest.raises(PromptTooLong, match=r"question 'q7'.*3 tokens.*context 3"):
        run_grow(ToyEnv(), Scripted(), ChainsThenBranches(), limits=Limits(max_context_tokens=3), question_id="q7")


def test_a_prompt_over_the_limit_is_an_error_that_names_question_and_setting():
    with pytest.raises(PromptTooLong, match=r"question 'q7'.*max_prompt_tokens is 2"):
        run_grow(ToyEnv(), Scripted(), ChainsThenBranches(), limits=Limits(max_prompt_tokens=2), question_id="q7")


def test_a_failing_search_is_retried_from_the_snapshot():
    failures = iter([True, True, False] + [False] * 100)
    tree = run_grow(ToyEnv(fail=lambda action: next(failures)), Scripted(), ChainsThenBranches(), key=(3,))
    assert len(tree.leaves) == tree.started


def test_a_path_that_search_ended_for_good_has_no_leaf_and_loses_nothing_else():
    tree = run_grow(ToyEnv(fail=lambda action: action == "s4!"), Scripted(), BranchEveryFirstTurn(), key=(5,))
    healthy = run_grow(ToyEnv(), Scripted(), BranchEveryFirstTurn(), key=(5,))
    assert 0 < len(tree.leaves) < tree.started
    assert tree.open_paths == 0
    assert len(healthy.leaves) == healthy.started


def test_an_engine_that_comes_back_is_used_again():
    class Flaky(Scripted):
        down = 2

        async def generate(self, requests, sampling):
            if self.down:
                self.down -= 1
                raise PolicyUnavailable("engine restarting")
            return await super().generate(requests, sampling)

    tree = run_grow(ToyEnv(), Flaky(), ChainsThenBranches(), key=(3,))
    assert len(tree.leaves) == tree.started


@pytest.mark.fault("C: a thought that the chat template opened, in training")
@pytest.mark.parametrize(
    ("turn", "kind"),
    [
        ("It says <search>query</search>", "malformed"),  # cut at its stop string, inside the thought
        ("It says <search>query</search>.\n</think>\n<answer>Paris</answer>", "answer"),
        ("I use <search>x</search> behind <think> here.</think><answer>Paris</answer>", "answer"),
    ],
)
def test_a_turn_behind_an_opened_thought_is_read_with_it(turn, kind):
    env = make_env(require_think=True)
    env.reset(options={"question_id": "q1"})
    tree = asyncio.run(grow(env, Actor(Recites([turn]), OpensThoughts()), Chains(1)))
    (leaf,) = tree.leaves
    assert (tree[leaf].ended, bytes(tree[leaf].action).decode()) == (kind, turn)
    assert tree[leaf].snapshot.turn.text == f"<think>\n{turn}"
