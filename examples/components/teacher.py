"""A teacher of your own: plays the number game the shortest way, and stops too early as often as it is told to."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from at2po_env.tasks import Script, Teacher
from at2po_env.tool_dialects import ToolAction


@dataclass(frozen=True)
class Shortest(Teacher):
    """``teacher: {name: "examples.components.teacher:Shortest", hasty: 0.2}``."""

    hasty: float = 0.0  # the share of turns that stop where they are

    def __post_init__(self) -> None:
        self.check_shares("hasty")

    def __call__(self, env: Any, rng: np.random.Generator) -> Script:
        """Begin to play the episode that ``env`` was reset to."""
        state = json.loads(env.episode.state)
        way = iter(shortest(state["number"], state["goal"]))
        stop = ToolAction("call", "stop")
        return lambda: env.rules.dialect.write(stop if rng.random() < self.hasty else next(way, stop), env.tools)


def shortest(number: int, goal: int) -> tuple[ToolAction, ...]:
    """The calls that lead from a number to a larger one, breadth first."""
    ways: dict[int, tuple[ToolAction, ...]] = {number: ()}
    while goal not in ways:
        for at, way in list(ways.items()):
            ways.setdefault(2 * at, (*way, ToolAction("call", "double")))
            for n in range(1, 10):
                ways.setdefault(at + n, (*way, ToolAction("call", "add", {"n": n})))
    return ways[goal]
