"""Many trees together: determinism under latency, free running, and what is dropped."""

import asyncio
import random

import pytest

from at2po_agent.method.expansion import Chains
from at2po_agent.rollouts.batch import rollout
from at2po_agent.rollouts.grow import Actor, Limits
from at2po_env import ForkError, McpServer, ToolEnv, ToolRules, ToolTask
from tests.helpers.toys import BranchEveryFirstTurn, Bytes, ChainsThenBranches, Recites, Scripted, ToyEnv


def test_other_errors_of_the_policy_reach_the_caller_at_once():
    class Broken(Scripted):
        async def generate(self, requests, sampling):
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        asyncio.run(rollout(ToyEnv(), ["x", "y"], Actor(Broken(), Bytes()), ChainsThenBranches()))


def shapes(trees):
    return [[(n.parent, n.group, n.action, n.logp, n.observation, n.reward) for n in tree.nodes] for tree in trees]


def test_deterministic_mode_does_not_see_latency():
    def once(delay: float):
        policy = Scripted(jitter=delay)
        env = ToyEnv(delay=lambda: random.random() * delay)
        questions = [f"question {i}" for i in range(6)]
        grown = asyncio.run(rollout(env, questions, Actor(policy, Bytes()), BranchEveryFirstTurn(), key=(0, 7)))
        batches = [[request.key for request in call] for call in policy.calls]
        return shapes(grown.trees), batches

    quiet, slow = once(0.0), once(0.004)
    assert quiet == slow  # the trees, and which requests ran together in which order
    assert len(quiet[1][0]) == 24  # six trees' four chains in one batch


def test_free_running_mode_does_not_wait_for_the_slowest():
    slow = iter([0.2])  # one search of the first tree
    policy = Scripted()
    actor = Actor(policy, Bytes(), deterministic=False)
    env = ToyEnv(delay=lambda: next(slow, 0.0))
    asyncio.run(rollout(env, ["slow", "fast"], actor, ChainsThenBranches(), key=(0, 1)))
    asked = [request.key[2] for call in policy.calls for request in call]  # tree by tree, in the order of its requests
    last_of_fast = max(place for place, tree in enumerate(asked) if tree == 1)
    assert asked[last_of_fast + 1 :].count(0) > 1  # the fast tree was complete while the slow one waited


def test_too_long_prompts_are_dropped_and_reported_and_the_rest_goes_on():
    grown = asyncio.run(
        rollout(
            ToyEnv(),
            ["ok", "x" * 50, "fine"],
            Actor(Scripted(), Bytes(), limits=Limits(max_prompt_tokens=20)),
            ChainsThenBranches(),
        )
    )
    assert [tree.question_id for tree in grown.trees] == ["ok", "fine"]
    assert list(grown.dropped) == ["x" * 50] and "52 tokens" in grown.dropped["x" * 50]


def test_the_tools_of_a_server_that_keeps_a_state_grow_chains_and_by_replay_trees():
    pytest.importorskip("mcp")
    from tests.helpers.mcp_servers import http_counter

    turns = ["<add>3</add>", "<add>4</add>", "<answer>7</answer>"]
    actor = Actor(Recites(turns), Bytes())
    tasks = [ToolTask("one", "One."), ToolTask("two", "Two.")]

    def grown(server, expansion):
        env = ToolEnv(server.tools("add"), tasks, lambda end: float(end.answer == "7"), ToolRules.of("bare"))
        return asyncio.run(rollout(env, ["one", "two"], actor, expansion)).trees

    with http_counter() as http:
        with McpServer.http(http.url) as kept:
            for tree in grown(kept, Chains(2)):
                seen = [bytes(node.observation).decode().strip() for node in tree.nodes[1:]]
                assert sorted(seen) == ["", "", *["<result> 3 </result>"] * 2, *["<result> 7 </result>"] * 2]
            with pytest.raises(ForkError, match="stateless=True"):
                grown(kept, BranchEveryFirstTurn())
        with McpServer.http(http.url, how="replay") as replayed:
            for tree in grown(replayed, BranchEveryFirstTurn()):
                assert {tree[leaf].reward for leaf in tree.leaves} == {1.0}
