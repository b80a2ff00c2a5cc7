"""A task that is no search: reach a number with three tools, made of plain Python functions.

Run it as it is: it plays three ways on from the middle of an episode. Then a tiny model imitates a beginner who mostly
stops too early, and learns by AT²PO to go on until the goal is reached, all in about half a minute on two cores.
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
    """Doubles while that does not go too far, then adds, and often stops too early; the policy first imitates it."""

    impatience: float = 0.0  # of stopping before the goal, each turn

    def __call__(self, env: ToolEnv, rng: np.random.Generator) -> Script:
        """Begin to play."""

        def act() -> str:
            state = json.loads(env.episode.state)
            number, left = state["number"], state["goal"] - state["number"]
            if left <= 0 or rng.random() < self.impatience:
                return "<stop></stop>"
            return "<double></double>" if 5 <= number <= left else f"<add>{min(left, 9)}</add>"

        return act


class Numbers(ToolEnv):
    """The environment, with the teacher that ``warm-start`` looks for."""

    teacher = Beginner


def make_env(split: str = "train", render_mode: str | None = None, most: int = 99, **kwargs: Any) -> ToolEnv:
    """What ``gymnasium.make`` calls; ``order`` and ``copies`` are the environment's, the rest are its rules."""
    options: dict[str, Any] = {name: kwargs.pop(name) for name in ("order", "copies") if name in kwargs}
    goals = [goal for goal in range(11, most + 1) if (goal % 5 == 0) == (split == "test")]
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
    """Make a policy that stops too early, and train it on eight goals."""
    env = ["env.id=Numbers-v0", "env.kwargs={most: 20}"]
    with tempfile.TemporaryDirectory() as folder:
        start = warm_start(
            None,
            [
                *env,
                f"output={Path(folder, 'start')}",
                "teacher.impatience=0.5",
                "model.tiny={vocab_size: 300, hidden_size: 64, intermediate_size: 192, layers: 2}",
                "model.text_episodes=300",
                "episodes=4000",
                "fit={matrix_lr: null, lr: 0.01, batch: 32, epochs: 3}",
                "eval.questions=0",
            ],
        )
        config = at2po.load_config(
            None,
            [
                *env,
                f"policy.path={start}",
                "rollout={questions: 8, max_turn_tokens: 8}",
                "algorithm.expansion={chains: 8, per_round: 4, rounds: 2}",
                "update={lr: 2e-3, mini_batch: 8}",
                "train={steps: 30}",
                "eval={split: train, questions: 8}",
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
