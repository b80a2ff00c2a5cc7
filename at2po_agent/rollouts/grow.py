"""``grow``: one asynchronous loop that grows a question's tree for every expansion strategy.

A path is a run of turns from some node to the end of its episode. ``grow`` asks the expansion where to start paths,
takes turns on them, adds every finished turn to the tree, and asks again, until nothing is open and nothing proposed.
So branching after the chains ended (AT²PO, Tree-GRPO) and while they run (AEPO) are the same loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from at2po_agent.method.expansion import Expansion
from at2po_agent.method.tree import ROOT, Branch, TurnNode, TurnTree
from at2po_agent.policy.base import Completion, Policy, PolicyUnavailable, Request, Sampling
from at2po_agent.rollouts.outages import Outages
from at2po_env.core import ForkableEnv
from at2po_env.state import Text
from search_backend.base import SearchUnavailable


class Encoder(Protocol):
    """What ``grow`` needs of ``encoding.Codec``."""

    def prompt(self, text: Text) -> tuple[int, ...]:
        """Ids of the first prompt, ready for the policy's turn."""
        ...

    def observation(self, text: Text) -> tuple[int, ...]:
        """Ids of what the model reads after an action."""
        ...

    def decode_action(self, ids: Sequence[int]) -> str:
        """The text of a sampled turn."""
        ...


@dataclass(frozen=True)
class Limits:
    """Token and retry limits of a rollout; the token limits are the paper's."""

    max_prompt_tokens: int = 2000
    max_response_tokens: int = 6192  # all turns of a trajectory with their observations
    max_turn_tokens: int = 512
    max_context_tokens: int | None = None  # what the model can read and write in all; None: no such limit
    retries: int = 10  # of a turn that the search or the engine failed: two minutes in all
    retry_seconds: float = 2.0  # before the first retry; doubles each time, up to 15


class PromptTooLong(ValueError):
    """A question's prompt exceeds ``max_prompt_tokens``, or leaves no room to generate in the model's context."""


@dataclass
class _Path:
    number: int  # in order of proposal; with the turn it addresses the sampling noise
    group: int
    node: int  # the node under which the next turn is sampled
    env: ForkableEnv[Any]


class _Grower:
    """The state of one ``grow``: the tree, its policy and the accumulated reward of every node."""

    def __init__(
        self,
        env: ForkableEnv[Any],
        policy: Policy,
        encoder: Encoder,
        sampling: Sampling,
        limits: Limits,
        key: tuple[int, ...],
        question_id: str,
        outages: Outages,
    ) -> None:
        prompt = encoder.prompt(env.observation())
        if len(prompt) > limits.max_prompt_tokens:
            raise PromptTooLong(
                f"question {question_id!r}: the prompt has {len(prompt)} tokens, rollout.max_prompt_tokens is "
                f"{limits.max_prompt_tokens}"
            )
        context = limits.max_context_tokens
        if context is not None and len(prompt) >= context:
            raise PromptTooLong(
                f"question {question_id!r}: the prompt has {len(prompt)} tokens, and the model's context {context}"
            )
        self.env, self.policy, self.encoder = env, policy, encoder
        self.sampling = replace(sampling, stop=sampling.stop or env.stop)
        self.rewards = [0.0]  # [nodes] summed from the root to each node
        self.limits, self.key, self.outages = limits, key, outages
        self.tree = TurnTree(prompt, snapshot=env.snapshot(), question_id=question_id)

    def start(self, branch: Branch, number: int) -> _Path:
        env = self.env.clone()
        env.restore(self.tree[branch.node].snapshot)
        return _Path(number, branch.group, branch.node, env)

    async def take_turns(self, paths: Sequence[_Path]) -> list[TurnNode | None]:
        """One turn on each path; None where infrastructure failed it for good."""
        requests = [self._request(path) for path in paths]
        completions = await self._outlast("engine", lambda: self.policy.generate(requests, self.sampling))
        if completions is None:
            return [None] * len(paths)
        return await asyncio.gather(*map(self._step, paths, completions))

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

    async def _step(self, path: _Path, completion: Completion) -> TurnNode | None:
        env, parent = path.env, self.tree[path.node]
        text = self.encoder.decode_action(completion.ids)
        result = await self._outlast("search", lambda: env.astep(text), lambda: env.restore(parent.snapshot))
        if result is None:
            return None
        _, reward, terminated, truncated, info = result
        observation: tuple[int, ...] = ()
        if not (terminated or truncated):
            observation = self.encoder.observation(env.observation())
            used = len(self.tree.prompt_ids(path.node)) + len(completion.ids) + len(observation)
            if self._room(used) < 1:  # no room for another token: this turn is the leaf
                observation = ()
                _, reward, terminated, truncated, info = env.end("length_limit")
        leaf = terminated or truncated
        total = self.rewards[path.node] + reward
        return TurnNode(
            parent=path.node,
            group=path.group,
            depth=parent.depth + 1,
            action=completion.ids,
            logp=completion.logprobs,
            observation=observation,
            snapshot=env.snapshot(),
            leaf=leaf,
            reward=total,
            ended=info.get("ended") if leaf else None,
            top_logprobs=completion.top_logprobs,
            version=completion.version,
            straddles=completion.straddles,
            info=info if leaf else {},
        )

    async def _outlast(
        self, backend: str, attempt: Callable[[], Awaitable[Any]], undo: Callable[[], None] = lambda: None
    ) -> Any:
        """What the attempt returns; None where its backend did not come back."""
        limits = self.limits
        try:
            return await self.outages.outlast(
                backend, attempt, undo=undo, retries=limits.retries, seconds=limits.retry_seconds
            )
        except (SearchUnavailable, PolicyUnavailable):
            return None

    def add(self, path: _Path, node: TurnNode) -> int:
        self.rewards.append(node.reward or 0.0)
        if not node.leaf:
            node.reward = None
        path.node = self.tree.add(node)
        return path.node


async def grow(
    env: ForkableEnv[Any],
    policy: Policy,
    encoder: Encoder,
    expansion: Expansion,
    *,
    sampling: Sampling | None = None,
    limits: Limits | None = None,
    key: tuple[int, ...] = (0,),
    question_id: str = "",
    lockstep: bool = False,
    outages: Outages | None = None,
) -> TurnTree:
    """Grow one tree from the episode that ``env`` is at, and return it.

    Args:
        env: an environment that was reset; it is forked, never stepped.
        policy: samples the turns.
        encoder: turns text into token ids and back.
        expansion: decides where to grow; see ``expansion.py``.
        sampling: temperature and stops; the environment's stop strings where it names none.
        limits: tokens and retries.
        key: addresses this tree's sampling noise, ``(seed, step, tree)`` in training.
        question_id: stored with the tree.
        lockstep: take one turn on every open path at a time, so that the order of nodes does not depend on latency.
        outages: says when the search or the engine does not answer, and when it is back; share it between trees.

    Paths that infrastructure ended for good are left without a leaf; ``TurnTree.prune`` removes them.

    Raises:
        PromptTooLong: the prompt alone exceeds ``limits.max_prompt_tokens``, or fills the model's context.
    """
    sampling = replace(sampling or Sampling(), top_logprobs=expansion.top_logprobs)
    grower = _Grower(env, policy, encoder, sampling, limits or Limits(), key, question_id, outages or Outages())
    tree, rng = grower.tree, np.random.default_rng(key)
    pending: dict[asyncio.Task[list[TurnNode | None]], Sequence[_Path]] = {}
    ready: list[_Path] = []
    try:
        while True:
            branches = tuple(expansion.propose(tree, rng))
            ready += [grower.start(branch, tree.started + i) for i, branch in enumerate(branches)]
            if branches:
                tree.proposals.append(branches)
                tree.open_paths += len(branches)
            for unit in [ready] if lockstep and ready else [[path] for path in ready]:
                pending[asyncio.create_task(grower.take_turns(unit))] = unit
            if not pending:
                return tree
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
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
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
