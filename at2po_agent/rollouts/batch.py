"""``rollout``: the trees of a batch of questions, grown together on one engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from at2po_agent.method.expansion import Expansion
from at2po_agent.method.groups import Rollout
from at2po_agent.method.tree import TurnTree
from at2po_agent.rollouts.grow import Actor, Limits, PromptTooLong, TokenLimits, grow
from at2po_agent.rollouts.lockstep import Lockstep
from at2po_agent.settings import above, at_least
from at2po_agent.tasks import run_all
from at2po_env.core import ForkableEnv


@dataclass(frozen=True)
class RolloutConfig(TokenLimits):
    """Settings of rollouts."""

    questions: int = at_least(64, 1)  # questions per step, with one tree each
    temperature: float = above(1.0, 0)  # of sampling; log-probabilities in training are of this distribution too
    tokens: Literal["exact", "retokenise"] = (
        "exact"  # retokenise: the policy reads re-encoded text, to measure the cost
    )
    # Retries of a turn whose search or engine failed, from its snapshot; after the last one its path is dropped.
    retries: int = at_least(10, 0)
    retry_seconds: float = at_least(
        2.0, 0
    )  # wait before the first retry; doubles each time, up to 15: two minutes in all
    max_batch: int = at_least(256, 1)  # requests that the engine runs together

    def limits(self, max_context_tokens: int | None) -> Limits:
        """The limits of the rollouts of a model with this context."""
        return Limits(
            max_prompt_tokens=self.max_prompt_tokens,
            max_response_tokens=self.max_response_tokens,
            max_turn_tokens=self.max_turn_tokens,
            max_context_tokens=max_context_tokens,
            retries=self.retries,
            retry_seconds=self.retry_seconds,
        )


async def rollout(
    env: ForkableEnv[Any],
    question_ids: Sequence[str],
    actor: Actor,
    expansion: Expansion,
    *,
    key: tuple[int, ...] = (0,),
    first: int = 0,
) -> Rollout:
    """Grow the trees of many questions together; one engine serves them all.

    Args:
        env: cloned and reset to each question by ``options={"task_id": …}``.
        question_ids: one tree each.
        actor: samples the turns; its policy sees requests of all trees together, in lockstep where the actor is
            deterministic.
        expansion: see ``grow``.
        key: ``(seed, step)``; every tree adds its number.
        first: number of the first tree; the others follow it.
    """
    gate = Lockstep(actor.policy, members=len(question_ids)) if actor.deterministic else None
    acting = replace(actor, policy=gate) if gate else actor
    dropped: dict[str, str] = {}

    async def one(number: int, question_id: str) -> TurnTree | None:
        fork = env.clone()
        try:
            fork.reset(options={"task_id": question_id})
            return await grow(fork, acting, expansion, key=(*key, number), question_id=question_id)
        except PromptTooLong as error:
            dropped[question_id] = str(error)
            return None
        finally:
            if gate:
                gate.leave()

    grown = await run_all(one(number, question_id) for number, question_id in enumerate(question_ids, start=first))
    trees = tuple(tree for tree in grown if tree is not None)
    lost = sum(tree.started - len(tree.leaves) for tree in trees)
    return Rollout(trees, dropped, lost, len(question_ids))
