"""A task that is no search: reach a number with three tools, made of plain Python functions and forked by hand.

Run it as it is. For a task of your own, replace the tools, the tasks and the reward, and name the environment in a
configuration: ``env: {id: "examples.number_game:Numbers-v0"}``.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from at2po_env.tool_env import ToolEnv
from at2po_env.tool_rules import Finished, ToolRules, ToolTask


def add(n: int, state: dict[str, Any]) -> str:
    """Add n (1 to 9) to the number."""
    if not 1 <= n <= 9:
        raise ValueError("n must be 1 to 9")
    state["number"] += n
    return str(state["number"])


def double(state: dict[str, Any]) -> str:
    """Double the number."""
    state["number"] *= 2
    return str(state["number"])


def stop(state: dict[str, Any]) -> str:
    """End with the number that is there now."""
    return str(state["number"])


def reached(end: Finished) -> float:
    """1 where the model stopped at the goal."""
    return float(end.ended == "done" and end.state["number"] == end.state["goal"])


def make_env(split: str = "train", render_mode: str | None = None, **kwargs: Any) -> ToolEnv:
    """What ``gymnasium.make`` calls; ``order`` and ``copies`` are the environment's, the rest are its rules."""
    options: dict[str, Any] = {name: kwargs.pop(name) for name in ("order", "copies") if name in kwargs}
    goals = [goal for goal in range(11, 100) if (goal % 5 == 0) == (split == "test")]
    tasks = [ToolTask(f"to-{goal}", f"{goal}", state={"number": 1, "goal": goal}) for goal in goals]
    rules = ToolRules.of(**{"dialect": "bare", "max_turns": 6, "ends": ("stop",), **kwargs})
    options |= {"name": "numbers", "split": split, "render_mode": render_mode}
    return ToolEnv([add, double, stop], tasks, reached, rules, **options)


gymnasium.register("Numbers-v0", entry_point=f"{__name__}:make_env")


def main() -> None:
    """Play to the middle of an episode, and try three ways on from there."""
    env = make_env()
    env.reset(options={"task_id": "to-16"})
    env.step("<add>3</add>")
    env.step("<double></double>")
    ways = (
        ["<double></double>", "<stop></stop>"],
        ["<add>7</add>", "<stop></stop>"],
        ["<add>12</add>", "<stop></stop>"],
    )
    for fork, actions in zip(env.fork(len(ways)), ways, strict=True):
        fork.render_mode = "ansi"
        for action in actions:
            fork.step(action)
        print(fork.render(), end="\n\n")


if __name__ == "__main__":
    main()
