"""Replay a stored tree: take its turns again in the environment, so that it can be grown further."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from at2po_agent.errors import AgentError
from at2po_agent.method.tree import ROOT, Branch, TurnNode, TurnTree
from at2po_agent.rollouts.grow import Actor, Planted
from at2po_env.core import ForkableEnv, StepResult


class ReplayError(AgentError):
    """A stored tree cannot be taken again: the environment now answers otherwise than it did."""


async def replay(env: ForkableEnv[Any], actor: Actor, stored: TurnTree) -> tuple[Planted, dict[int, int]]:
    """Take the inner turns of a stored tree again, and check every observation against the stored one.

    Args:
        env: reset to the tree's question; it is cloned, never stepped.
        actor: of the policy that the tree was sampled with; its limits say how long it waits for a search that is down.
        stored: as ``TurnTree.from_json`` opens it.

    Returns:
        A tree of its inner turns alone, with a snapshot of each, and the new index of every one of them by the old.

    Raises:
        ReplayError: the prompt or an observation is another one, or a turn ends the episode now.
        SearchUnavailable: the search did not come back.
        ToolUnavailable: the server behind a tool did not.
    """
    codec = actor.codec
    prompt = codec.prompt(env.observation())
    if tuple(prompt) != tuple(stored[ROOT].observation):
        raise ReplayError(f"question {stored.question_id!r} has another prompt than when its tree was stored")
    tree = TurnTree(prompt, snapshot=env.snapshot(), question_id=stored.question_id)
    rewards, new = [0.0], {ROOT: ROOT}
    for old in stored.inner_turns():
        node = stored[old]
        parent = new[node.parent]
        own = env.clone()
        text = codec.opened_thought(tree.prompt_ids(parent)) + codec.decode_action(node.action)
        _, reward, terminated, truncated, _ = await _step(own, actor, tree[parent].snapshot, text)
        if terminated or truncated or tuple(codec.observation(own.observation())) != node.observation:
            raise ReplayError(
                f"question {stored.question_id!r}: turn {old} of its stored tree has another observation now: the "
                "data, the index or the environment has changed"
            )
        again = TurnNode(parent, node.group, tree[parent].depth + 1, node.action, node.logp, node.observation)
        again.snapshot = own.snapshot()
        new[old] = tree.add(again)
        rewards.append(rewards[parent] + reward)
    return Planted(tree, rewards), new


async def _step(env: ForkableEnv[Any], actor: Actor, snapshot: Any, text: str) -> StepResult:
    """A turn after ``snapshot``, tried again from there while its search or tool does not answer."""

    def undo() -> None:
        env.restore(snapshot)

    undo()
    return await actor.outages.outlast(
        env.waits_for,
        lambda: env.astep(text),
        undo=undo,
        retries=actor.limits.retries,
        seconds=actor.limits.retry_seconds,
    )


class Refork:
    """An expansion that samples ``n`` new children under each of some nodes, and then nothing.

    The ``i``-th node's paths are group ``i``.
    """

    top_logprobs = 0

    def __init__(self, nodes: Sequence[int], n: int) -> None:
        self.nodes, self.n = tuple(nodes), n

    @property
    def leaves(self) -> int:
        """One for each path."""
        return len(self.nodes) * self.n

    def propose(self, tree: TurnTree, rng: Any) -> Sequence[Branch]:
        """All of them at once."""
        if tree.proposals:
            return ()
        return [Branch(node, group) for group, node in enumerate(self.nodes) for _ in range(self.n)]
