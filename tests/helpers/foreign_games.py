"""Games as others write them: Gymnasium environments in text that know nothing of forks."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Text


class Dice(gymnasium.Env[str, str]):
    """Collect a sum of 12 or more with ``roll``, and ``stop`` before it is above 18.

    The seed is ignored, every roll comes from the global generators, and the space does not tell the truth.
    """

    made: ClassVar[int] = 0

    def __init__(self, sides: int = 6) -> None:
        self.observation_space = Text(3)
        self.action_space = Text(10)
        self.sides, self.total = sides, 0
        Dice.made += 1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.total = random.randint(1, self.sides) + (options or {}).get("bonus", 0)
        return f"You have {self.total}.", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if action == "roll":
            rolled = random.randint(1, self.sides) + int(np.random.randint(2))
            self.total += rolled
            return f"You roll {rolled} and have {self.total}.", 0.0, self.total > 18, False, {}
        if action == "stop":
            return "You stop.", float(self.total >= 12), True, False, {}
        return f"You cannot {action}.", -0.125, False, False, {}


class Moody(Dice):
    """Says something else every time that it is played."""

    played: ClassVar[int] = 0

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        Moody.played += 1
        observation, *rest = super().step("stay" if action == "wait" else action)
        return (f"{observation} It is {Moody.played} o'clock.", *rest)


class Uncopyable(Dice):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = (number for number in range(9))


class Pixels(gymnasium.Env[Any, int]):
    observation_space = Box(0, 1, (4, 4))
    action_space = gymnasium.spaces.Discrete(2)


class NoText(Dice):
    """Claims text and gives numbers."""

    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        return super().reset(**given)[0].encode(), {}


class OldGame:
    """No Gymnasium environment at all."""

    def __init__(self) -> None:
        self.left = 0

    def new(self, seed: int) -> str:
        self.left = seed % 5 + 2
        return f"{self.left} matches"

    def take(self, n: int) -> bool:
        self.left -= n
        return self.left <= 0


def old_reset(game: OldGame, seed: int | None, options: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
    return game.new(seed or 0), {}


def old_step(game: OldGame, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
    over = game.take(2 if action == "two" else 1)
    return f"{game.left} left", float(over and game.left == 0), over, False, {}


gymnasium.register("Dice-v0", entry_point=Dice, max_episode_steps=12)
gymnasium.register("Pixels-v0", entry_point=Pixels)
