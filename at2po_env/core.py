"""``ForkableEnv``: a Gymnasium environment whose episodes can be snapshotted, restored and forked at any turn."""

from __future__ import annotations

import asyncio
import copy
from abc import ABC, abstractmethod
from typing import Any, Generic, Self, TypeVar

import gymnasium

from at2po_env.state import Text

SnapshotT = TypeVar("SnapshotT")

StepResult = tuple[str, float, bool, bool, dict[str, Any]]


class ForkableEnv(gymnasium.Env[str, str], ABC, Generic[SnapshotT]):
    """A text environment with ``snapshot``, ``restore`` and ``fork``.

    Actions and observations are text: an action is one model turn, an observation what the model reads next.
    ``env.reset(options={"snapshot": s})`` restores through any wrapper, in vector environments and in another process;
    ``unwrapped.restore(s)`` is the raw form under it. ``at2po_env.testing`` has the contract as an inheritable test.
    """

    stop: tuple[str, ...] = ()  # strings that end an action: a policy stops sampling after any of them
    waits_for: str = "search"  # what a step may wait for, as lines about an outage call it

    @abstractmethod
    def step(self, action: str) -> StepResult:
        """Take one turn. A typed error leaves the episode as it was, so that the turn can be tried again."""

    @abstractmethod
    def snapshot(self) -> SnapshotT:
        """The current episode as a frozen, hashable, picklable value. O(1)."""

    @abstractmethod
    def restore(self, snapshot: SnapshotT) -> None:
        """Continue from ``snapshot`` exactly as the episode it was taken from."""

    @abstractmethod
    def clone(self) -> Self:
        """A new environment that shares read-only resources (data, search) and nothing else, not yet reset."""

    @abstractmethod
    def observation(self) -> Text:
        """The text for the model, as segments: the prompt after a reset, the last observation after a step."""

    @abstractmethod
    def end(self, reason: str) -> StepResult:
        """End the episode from outside (a token limit): truncated, with the reward of an episode without an answer."""

    def fork(self, n: int) -> list[Self]:
        """Return ``n`` environments that each continue this episode on their own, exactly as this one would."""
        if n < 1:
            raise ValueError(f"fork needs n >= 1, got {n}")
        here = self.snapshot()
        forks = [self.clone() for _ in range(n)]
        for env in forks:
            env.restore(here)
            # What comes after this episode is drawn from the generator: the same draws, but not the same generator.
            env._np_random, env._np_random_seed = copy.deepcopy(self.np_random), self.np_random_seed
        return forks

    async def astep(self, action: str) -> StepResult:
        """``step`` for an event loop; override it where a step waits for something."""
        return await asyncio.to_thread(self.step, action)
