"""A task that is no search: reach a number with three tools, made of plain Python functions.

Run it as it is: it plays three ways on from the middle of an episode, then makes a tiny model that imitates a beginner
who blunders, and trains it, all in less than a minute on two cores. The share of goals that it reaches rises.
For a task of your own, replace the tools, the tasks, the reward and the beginner, and name the environment in a
configuration: ``env: {id: "examples.number_game:Numbers-v0"}``.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import at2po_agent as at2po
from at2po_agent.warmstart.run import run as warm_start
from at2po_env.scripts import Script, Teacher
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


@dataclass(frozen=True)
class Beginner(Teacher):
    """Doubles while that does not go too far, then adds; the policy begins as an imitation of it."""

    blunder: float = 0.0  # of doing anything instead, each turn

    def __call__(self, env: ToolEnv, rng: np.random.Generator) -> Script:
        """Begin to play."""

        def act() -> str:
            state = json.loads(env.episode.state)
            number, left = state["number"], state["goal"] - state["number"]
            if rng.random() < self.blunder:
                return str(rng.choice([f"<add>{rng.integers(1, 10)}</add>", "<double></double>", "<stop></stop>"]))
            if left <= 0:
                return "<stop></stop>"
            if 5 <= number <= left:
                return "<double></double>"
            return f"<add>{min(left, 9)}</add>"

        return act


class Numbers(ToolEnv):
    """The environment, with the teacher that ``warm-start`` looks for."""

    teacher = Beginner


def make_env(split: str = "train", render_mode: str | None = None, **kwargs: Any) -> ToolEnv:
    """What ``gymnasium.make`` calls; ``order`` and ``copies`` are the environment's, the rest are its rules."""
    options: dict[str, Any] = {name: kwargs.pop(name) for name in ("order", "copies") if name in kwargs}
    goals = [goal for goal in range(11, 100) if (goal % 5 == 0) == (split == "test")]
    tasks = [ToolTask(f"to-{goal}", f"{goal}", state={"number": 1, "goal": goal}) for goal in goals]
    rules = ToolRules.of(**{"dialect": "bare", "max_turns": 6, "ends": ("stop",), **kwargs})
    options |= {"name": "numbers", "split": split, "render_mode": render_mode}
    return Numbers([add, double, stop], tasks, reached, rules, **options)


gymnasium.register("Numbers-v0", entry_point=f"{__name__}:make_env")


def play() -> None:
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


def learn() -> None:
    """Make a policy that blunders, and train it."""
    env = "env.id=examples.number_game:Numbers-v0"
    with tempfile.TemporaryDirectory() as folder:
        start = warm_start(
            None,
            [
                env,
                f"output={Path(folder, 'start')}",
                "teacher.blunder=0.3",
                "model.tiny={vocab_size: 300, hidden_size: 64, intermediate_size: 192, layers: 2}",
                "model.text_episodes=500",
                "episodes=6000",
                "eval.questions=0",
            ],
        )
        config = at2po.load_config(
            None,
            [
                env,
                f"policy.path={start}",
                "rollout={questions: 32, max_turn_tokens: 8}",
                "algorithm.expansion={chains: 6, per_round: 3, rounds: 2}",
                "update={lr: 1e-3, mini_batch: 16}",
                "train={steps: 100, max_seconds: 20}",
                "eval={split: train, questions: 71}",
                f"run_dir={Path(folder, 'run')}",
            ],
        )
        with at2po.Display(config.train.steps, config.train.max_seconds) as display:
            result = at2po.train(config, display=display)
    for when, scores in (("before", result.before), ("after", result.after)):
        if scores is not None:
            print(f"goals reached {when}: {scores.mean:.0%}")


def main() -> None:
    """Play, then learn."""
    play()
    learn()


if __name__ == "__main__":
    main()
