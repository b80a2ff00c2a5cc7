"""``grow``: one asynchronous loop that grows a question's tree for every expansion strategy.

A path is a run of turns from some node to the end of its episode. ``grow`` asks the expansion where to start paths,
takes turns on them, adds every finished turn to the tree, and asks again, until nothing is open and nothing proposed.
So branching after the chains ended (AT²PO, Tree-GRPO) and while they run (AEPO) are the same loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from at2po_agent.method.expansion import Expansion
from at2po_agent.method.tree import ROOT, Branch, TurnNode, TurnTree
from at2po_agent.policy.base import Completion, Policy, Request, Sampling
from at2po_agent.rollouts.outages import UNAVAILABLE, Outages
from at2po_agent.settings import at_least
from at2po_agent.tasks import run_all
from at2po_env.core import ForkableEnv
from at2po_env.state import Text

Result = TypeVar("Result")


class Encoder(Protocol):
    """Text to token ids and back, as ``policy.codec.Codec`` does it."""

    def prompt(self, text: Text) -> tuple[int, ...]:
        """Ids of the first prompt, ready for the policy's turn."""
        ...

    def observation(self, text: Text) -> tuple[int, ...]:
        """Ids of what the model reads after an action."""
        ...

    def decode_action(self, ids: Sequence[int]) -> str:
        """The text of a sampled turn."""
        ...

    def opened_thought(self, prompt: Sequence[int]) -> str:
        """The tag of a thought that ``prompt`` ends with, so that a turn after it begins inside; else nothing."""
        ...


@dataclass(frozen=True)
class TokenLimits:
    """Limits of an episode in tokens, the paper's; the settings that training and evaluation share."""

    max_prompt_tokens: int = at_least(2000, 1)  # most tokens of the first prompt
    max_response_tokens: int = at_least(6192, 1)  # most tokens of a whole path, generated and observed
    max_turn_tokens: int = at_least(512, 1)  # most tokens generated in a turn


@dataclass(frozen=True)
class Limits(TokenLimits):
    """Token and retry limits of a rollout; ``RolloutConfig`` and the judge's ``LimitConfig`` make them."""

    max_context_tokens: int | None = None  # the model's context, prompt and answer together; None: unlimited
    retries: int = 10  # of a turn that the search or the engine failed: two minutes in all
    retry_seconds: float = 2.0  # before the first retry; doubles each time, up to 15


@dataclass(frozen=True)
class Actor:
    """A policy as it acts in episodes: how it reads and writes, is sampled, and is limited.

    The stop strings are the environment's where ``sampling`` names none. An actor that is ``deterministic`` takes one
    turn on every open path at a time, so that neither the order of nodes nor the engine's batches depend on latency:
    two runs are equal bit for bit. Otherwise every path goes on as soon as it can.
    """

    policy: Policy
    codec: Encoder
    sampling: Sampling = field(default_factory=Sampling)
    limits: Limits = field(default_factory=Limits)
    deterministic: bool = True
    outages: Outages = field(default_factory=Outages)  # reports a search or an engine that does not answer

    def greedy(self) -> Actor:
        """The same actor at temperature 0, as evaluations take it."""
        return replace(self, sampling=replace(self.sampling, temperature=0.0))


class PromptTooLong(ValueError):
    """A question's prompt exceeds ``max_prompt_tokens``, or leaves no room to generate in the model's context."""


@dataclass(frozen=True)
class Planted:
    """A tree that is there already and is grown further: every node has its snapshot."""

    tree: TurnTree
    rewards: list[float]  # [nodes] summed from the root to each node


@dataclass
class _Path:
    number: int  # in order of proposal; with the turn it addresses the sampling noise
    group: int
    node: int  # the node under which the next turn is sampled
    reward: float  # summed from the root to the end of the last turn
    env: ForkableEnv[Any]


class _Grower:
    """The state of one ``grow``: the tree, who acts in it, and the accumulated reward of every node."""

    def __init__(self, env: ForkableEnv[Any], actor: Actor, key: tuple[int, ...], planted: Planted) -> None:
        self.env, self.actor, self.limits, self.key = env, actor, actor.limits, key
        self.tree, self.rewards = planted.tree, planted.rewards
        _check_prompt(len(self.tree[ROOT].observation), actor.limits, self.tree.question_id)

    def start(self, branch: Branch, number: int) -> _Path:
        env = self.env.clone()
        env.restore(self.tree[branch.node].snapshot)
        return _Path(number, branch.group, branch.node, self.rewards[branch.node], env)

    async def take_turns(self, paths: Sequence[_Path]) -> list[TurnNode | None]:
        """One turn on each path; None where infrastructure failed it for good."""
        requests = [self._request(path) for path in paths]
        completions = await self._outlast("engine", lambda: self.actor.policy.generate(requests, self.actor.sampling))
        if completions is None:
            return [None] * len(paths)
        return await run_all(map(self._step, paths, requests, completions))

    def _request(self, path: _Path) -> Request:
        prompt = self.tree.prompt_ids(path.node)
        room = self._room(len(prompt))
        depth = self.tree[path.node].depth
        return Request(prompt, min(room, self.limits.max_turn_tokens), (*self.key, path.number, depth))

    def _room(self, used: int) -> int:
        """Tokens that may still be generated after ``used`` ones, prompt included."""
        room = self.limits.max_response_tokens - (used - len(self.tree[ROOT].observation))
        context = self.limits.max_context_tokens
        return room if context is None else min(room, context - used)

    async def _step(self, path: _Path, request: Request, completion: Completion) -> TurnNode | None:
        """The node of a sampled turn, not yet in the tree; None where the search failed it for good."""
        env, parent, codec = path.env, self.tree[path.node], self.actor.codec
        # The environment reads the turn as text, whole where the prompt wrote its first tag. A search that failed is
        # tried again from before the turn.
        text = codec.opened_thought(request.prompt) + codec.decode_action(completion.ids)
        result = await self._outlast(env.waits_for, lambda: env.astep(text), lambda: env.restore(parent.snapshot))
        if result is None:
            return None
        _, reward, terminated, truncated, info = result
        # The model reads the observation before its next turn. Where that leaves no room for another token, this turn
        # ends the path: the observation would never be read, and the episode is rewarded as one without an answer.
        observation: tuple[int, ...] = ()
        if not (terminated or truncated):
            observation = codec.observation(env.observation())
            used = len(request.prompt) + len(completion.ids) + len(observation)
            if self._room(used) < 1:
                observation = ()
                _, reward, terminated, truncated, info = env.end("length_limit")
        # Rewards are summed along the path. Only a leaf carries the sum: credit distributes it to the turns.
        path.reward += reward
        leaf = terminated or truncated
        return TurnNode(
            parent=path.node,
            group=path.group,
            depth=parent.depth + 1,
            action=completion.ids,
            logp=completion.logprobs,
            observation=observation,
            snapshot=env.snapshot(),
            leaf=leaf,
            reward=path.reward if leaf else None,
            ended=info.get("ended") if leaf else None,
            top_logprobs=completion.top_logprobs,
            version=completion.version,
            straddles=completion.straddles,
            info=info if leaf else {},
        )

    async def _outlast(
        self, backend: str, attempt: Callable[[], Awaitable[Result]], undo: Callable[[], None] = lambda: None
    ) -> Result | None:
        """The attempt's result; None where its backend did not come back."""
        limits = self.limits
        try:
            return await self.actor.outages.outlast(
                backend, attempt, undo=undo, retries=limits.retries, seconds=limits.retry_seconds
            )
        except UNAVAILABLE:
            return None

    def add(self, path: _Path, node: TurnNode) -> int:
        """Put a path's turn into the tree; its next turn is sampled under it."""
        self.rewards.append(path.reward)
        path.node = self.tree.add(node)
        return path.node


def _check_prompt(tokens: int, limits: Limits, question_id: str) -> None:
    context = limits.max_context_tokens
    if tokens > limits.max_prompt_tokens:
        raise PromptTooLong(
            f"question {question_id!r}: the prompt has {tokens} tokens, rollout.max_prompt_tokens is "
            f"{limits.max_prompt_tokens}"
        )
    if context is not None and tokens >= context:
        raise PromptTooLong(
            f"question {question_id!r}: the prompt has {tokens} tokens, and the model's context {context}"
        )


async def grow(
    env: ForkableEnv[Any],
    actor: Actor,
    expansion: Expansion,
    *,
    key: tuple[int, ...] = (0,),
    question_id: str = "",
    planted: Planted | None = None,
) -> TurnTree:
    """Grow one tree from the episode that ``env`` is at, and return it.

    Args:
        env: an environment that was reset; it is forked, never stepped.
        actor: samples the turns.
        expansion: decides where to grow; see ``method.expansion``.
        key: addresses this tree's sampling noise, ``(seed, step, tree)`` in training.
        question_id: stored with the tree.
        planted: what is grown further; default: a new tree of the prompt alone.

    Paths that infrastructure ended for good are left without a leaf; ``TurnTree.prune`` removes them.

    Raises:
        PromptTooLong: the prompt alone exceeds ``limits.max_prompt_tokens``, or fills the model's context.
    """
    sampling = replace(actor.sampling, stop=actor.sampling.stop or env.stop, top_logprobs=expansion.top_logprobs)
    if planted is None:
        prompt = actor.codec.prompt(env.observation())
        planted = Planted(TurnTree(prompt, snapshot=env.snapshot(), question_id=question_id), [0.0])
    grower = _Grower(env, replace(actor, sampling=sampling), key, planted)
    tree, rng = grower.tree, np.random.default_rng(key)
    # Turns under way, with their paths; and paths whose next turn can begin.
    pending: dict[asyncio.Task[list[TurnNode | None]], Sequence[_Path]] = {}
    ready: list[_Path] = []
    try:
        while True:
            # Ask the expansion where to branch: first of the bare root, then after every event.
            branches = tuple(expansion.propose(tree, rng))
            ready += [grower.start(branch, tree.started + i) for i, branch in enumerate(branches)]
            if branches:
                tree.proposals.append(branches)
                tree.open_paths += len(branches)
            # Begin the next turns: as one batch in lockstep, otherwise each path on its own.
            for unit in [ready] if actor.deterministic and ready else [[path] for path in ready]:
                pending[asyncio.create_task(grower.take_turns(unit))] = unit
            # Nothing is open and nothing was proposed: the tree is complete.
            if not pending:
                return tree
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            # Add the turns that ended, in the order of their paths, and see which paths go on.
            ready, fresh = [], []
            for task in sorted(done, key=lambda task: pending[task][0].number):
                for path, node in zip(pending.pop(task), task.result(), strict=True):
                    if node is not None:
                        fresh.append(grower.add(path, node))
                    if node is None or node.leaf:
                        tree.open_paths -= 1
                    else:
                        ready.append(path)
            tree.fresh = tuple(fresh)
    finally:
        # After an error or a cancellation nothing of this tree goes on.
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
