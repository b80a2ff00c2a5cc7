"""A small forkable environment, a byte encoder and a scripted policy: doubles at the seams around ``grow``."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from at2po_agent.method.tree import ROOT, Branch, TurnTree
from at2po_agent.policy.base import Completion, Request, Sampling
from at2po_env.core import ForkableEnv, StepResult
from at2po_env.state import Segment, Text


class ToyEnv(ForkableEnv[tuple[str, ...]]):
    """Collects actions; an action that starts with ``a`` ends the episode with reward 1 if it is exactly ``a!``."""

    def __init__(self, delay: Callable[[], float] = lambda: 0.0, fail: Callable[[str], bool] = lambda action: False):
        self.observation_space = self.action_space = gymnasium.spaces.Text(100)
        self.actions: tuple[str, ...] = ("q",)
        self.delay, self.fail = delay, fail
        self.stop = ("!",)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.actions = ((options or {}).get("task_id", "q"),)
        return self.actions[0], {}

    def step(self, action: str) -> StepResult:
        from search_backend.base import SearchUnavailable

        if self.fail(action):
            raise SearchUnavailable("the toy search is down")
        self.actions = (*self.actions, action)
        over = action.startswith("a")
        info = {"ended": "answer", "em": float(action == "a!")} if over else {}
        return f"<{action}>", float(action == "a!"), over, False, info

    async def astep(self, action: str) -> StepResult:
        await asyncio.sleep(self.delay())
        return self.step(action)

    def snapshot(self) -> tuple[str, ...]:
        return self.actions

    def restore(self, snapshot: tuple[str, ...]) -> None:
        self.actions = snapshot

    def clone(self) -> ToyEnv:
        return ToyEnv(self.delay, self.fail)

    def observation(self) -> Text:
        last = self.actions[-1]
        return (Segment("<", False), Segment(last, True), Segment(">", False))

    def end(self, reason: str) -> StepResult:
        return "", -1.0, False, True, {"ended": reason}


class Bytes:
    """Token ids are the bytes of the text."""

    def prompt(self, text: Text) -> tuple[int, ...]:
        return self.observation(text)

    def observation(self, text: Text) -> tuple[int, ...]:
        return tuple("".join(segment.text for segment in text).encode())

    def decode_action(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode()

    def opened_thought(self, prompt: Sequence[int]) -> str:
        return ""


class OpensThoughts(Bytes):
    """The bytes of the text, behind a prompt that ends as DeepSeek-R1's does."""

    def prompt(self, text: Text) -> tuple[int, ...]:
        return (*super().prompt(text), *b"<think>\n")

    def opened_thought(self, prompt: Sequence[int]) -> str:
        return "<think>\n" if bytes(prompt).endswith(b"<think>\n") else ""


class Recites:
    """A policy that writes given turns."""

    def __init__(self, turns: Sequence[str]) -> None:
        self.turns = turns

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        texts = [self.turns[request.key[-1]].encode() for request in requests]
        return [Completion(tuple(text), (0.0,) * len(text), "stop") for text in texts]


class Scripted:
    """Answers by a hash of prompt and key: searches ``s0!``…``s9!``, and answers ``a!`` or ``ab!`` with chance 0.4."""

    def __init__(self, jitter: float = 0.0) -> None:
        self.calls: list[list[Request]] = []
        self.completions: list[tuple[Request, Completion]] = []
        self.jitter = jitter

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        self.calls.append(list(requests))
        if self.jitter:
            await asyncio.sleep(random.random() * self.jitter)
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> Completion:
        digest = hashlib.sha256(repr((request.prompt, request.key)).encode()).digest()
        text = "a!" if digest[0] < 60 else "ab!" if digest[0] < 100 else f"s{digest[1] % 10}!"
        ids = tuple(text.encode())[: request.max_new_tokens]
        logprobs = tuple(-(digest[2 + i] + 1) / 256 for i in range(len(ids)))
        completion = Completion(ids, logprobs, "stop")
        self.completions.append((request, completion))
        return completion


@dataclass(frozen=True)
class ChainsThenBranches:
    """Three chains, then two more under the most recent inner turn, then nothing."""

    top_logprobs = 0

    def propose(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[Branch]:
        if not tree.proposals:
            return [Branch(ROOT, g) for g in range(3)]
        if tree.open_paths or len(tree.proposals) > 1:
            return []
        inner = tree.inner_turns()
        node = inner[-1] if inner else ROOT
        return [Branch(node, tree[node].group if inner else 3)] * 2


@dataclass(frozen=True)
class BranchEveryFirstTurn:
    """While chains run: every fresh inner turn of depth 1 gets one more child, as AEPO branches."""

    top_logprobs = 0

    def propose(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[Branch]:
        if not tree.proposals:
            return [Branch(ROOT, g) for g in range(4)]
        return [Branch(n, tree[n].group) for n in tree.fresh if tree[n].depth == 1 and not tree[n].leaf]
