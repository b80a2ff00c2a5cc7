"""``rollout``: the trees of a batch of questions, grown together on one engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from at2po_agent.method.expansion import Expansion
from at2po_agent.method.groups import Rollout
from at2po_agent.method.tree import TurnTree
from at2po_agent.policy.base import Policy, Sampling
from at2po_agent.rollouts.grow import Encoder, Limits, PromptTooLong, grow
from at2po_agent.rollouts.lockstep import Lockstep
from at2po_agent.rollouts.outages import Outages
from at2po_agent.settings import above, at_least
from at2po_env.core import ForkableEnv


@dataclass(frozen=True)
class RolloutConfig:
    """How trees are grown."""

    questions: int = at_least(64, 1)  # per step, one tree each
    temperature: float = above(1.0, 0)  # the log-probabilities that training uses are of this distribution
    max_prompt_tokens: int = at_least(2000, 1)
    max_response_tokens: int = at_least(6192, 1)  # of a whole path: generated and observed
    max_turn_tokens: int = at_least(512, 1)
    tokens: Literal["exact", "retokenise"] = "exact"  # retokenise: the policy reads re-encoded text, to see the cost
    # Of a turn whose search or engine failed, from its snapshot; then its path is pruned.
    retries: int = at_least(10, 0)
    retry_seconds: float = at_least(2.0, 0)  # before the first retry; doubles each time, up to 15: two minutes in all
    max_batch: int = at_least(256, 1)  # requests that the engine runs together


async def rollout(
    env: ForkableEnv[Any],
    question_ids: Sequence[str],
    policy: Policy,
    encoder: Encoder,
    expansion: Expansion,
    *,
    sampling: Sampling | None = None,
    limits: Limits | None = None,
    key: tuple[int, ...] = (0,),
    first: int = 0,
    deterministic: bool = True,
    on_tree: Callable[[TurnTree], None] = lambda tree: None,
    outages: Outages | None = None,
) -> Rollout:
    """Grow the trees of many questions together; one engine serves them all.

    Args:
        env: cloned and reset to each question by ``options={"question_id": …}``.
        question_ids: one tree each.
        policy: samples the turns; it sees requests of all trees together.
        encoder: see ``grow``.
        expansion: see ``grow``.
        sampling: see ``grow``.
        limits: see ``grow``.
        key: ``(seed, step)``; every tree adds its number.
        first: number of the first tree; the others follow it.
        deterministic: admit requests in lockstep, so that two runs are equal bit for bit whatever the search latency.
        on_tree: called with every tree when it is complete, for progress.
        outages: says when the search or the engine does not answer, and when it is back.
    """
    outages = outages or Outages()
    gate = Lockstep(policy, members=len(question_ids)) if deterministic else None
    dropped: dict[str, str] = {}

    async def one(position: int, question_id: str) -> TurnTree | None:
        fork = env.clone()
        try:
            fork.reset(options={"question_id": question_id})
            tree = await grow(
                fork,
                gate or policy,
                encoder,
                expansion,
                sampling=sampling,
                limits=limits,
                key=(*key, first + position),
                question_id=question_id,
                lockstep=deterministic,
                outages=outages,
            )
        except PromptTooLong as error:
            dropped[question_id] = str(error)
            return None
        finally:
            if gate:
                gate.leave()
        on_tree(tree)
        return tree

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(i, question_id)) for i, question_id in enumerate(question_ids)]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None  # one tree's error ends the batch; the others were only cancelled
    trees = tuple(tree for task in tasks if (tree := task.result()) is not None)
    lost = sum(tree.started - len(tree.leaves) for tree in trees)
    return Rollout(trees, dropped, lost, len(question_ids))
