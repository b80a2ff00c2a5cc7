"""What a tree costs in an environment that others wrote, forked by copies and by replay, beside a native one.

Run it with ``python -m benchmarks.forks``; it prints a table and writes it to ``benchmarks/results/forks.txt``. The
game is the number game of the examples: as a ``ToolEnv``, and as a plain Gymnasium environment: as small as it is, with
much to copy, and with slow steps. A tree is 6 chains and 16 branches under nodes drawn at random, all played to the
last turn; the policy costs nothing.
"""

from __future__ import annotations

import gc
import platform
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from at2po_env import Forkable, ForkRules
from at2po_env.forkable import How
from at2po_env.spaces import UnicodeText
from at2po_env.tasks import TaskEnv

TURNS = (4, 16)
CHAINS, LEAVES = 6, 22
ROUNDS = 5


class Numbers(gymnasium.Env[str, str]):
    """Reach a number by ``add`` and ``double``, as somebody writes it who knows nothing of forks."""

    def __init__(self, board: int = 0, seconds: float = 0.0) -> None:
        self.observation_space = self.action_space = UnicodeText()
        self.board, self.seconds = [0] * board, seconds
        self.number = self.goal = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin at 1."""
        super().reset(seed=seed)
        self.number, self.goal = 1, int(self.np_random.integers(11, 100))
        self.board = [0] * len(self.board)
        return str(self.goal), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Add, double or stop."""
        until = time.perf_counter() + self.seconds
        while time.perf_counter() < until:
            pass
        if self.board:
            self.board[self.number % len(self.board)] += 1
        self.number = self.number * 2 if action == "double" else self.number + int(action.removeprefix("add "))
        return str(self.number), 0.0, False, False, {}


def tree(env: TaskEnv[Any], actions: Callable[[np.random.Generator], str], turns: int) -> tuple[int, list[Any]]:
    """Grow a tree; how many games were held beside those of open paths at most, and all of its snapshots."""
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    nodes, inner, most = [env.snapshot()], [env.snapshot()], 0
    for leaf in range(LEAVES):
        path = env.clone()
        start = nodes[0] if leaf < CHAINS else inner[int(rng.integers(len(inner)))]
        path.restore(start)
        for depth in range(start.depth, turns):
            path.step(actions(rng))
            nodes.append(path.snapshot())
            if depth + 1 < turns:
                inner.append(path.snapshot())
            most = max(most, getattr(env, "live", 0))
    return most, nodes


def _native(turns: int) -> TaskEnv[Any]:
    env = gymnasium.make("examples.number_game:Numbers-v0", max_turns=turns).unwrapped
    assert isinstance(env, TaskEnv)
    return env


def _forked(game: Callable[[], Numbers], how: How, max_live: int, turns: int) -> TaskEnv[Any]:
    return Forkable(game, how, 100, ForkRules(max_turns=turns), max_live=max_live)


def tools_action(rng: np.random.Generator) -> str:
    """A turn of the native game."""
    return "<double></double>" if rng.integers(2) else f"<add>{rng.integers(1, 10)}</add>"


def plain_action(rng: np.random.Generator) -> str:
    """The same turn of the plain one."""
    return "double" if rng.integers(2) else f"add {rng.integers(1, 10)}"


def measure(make: Callable[[], TaskEnv[Any]], actions: Callable[[Any], str], turns: int) -> tuple[float, float, int]:
    """Milliseconds of a tree, the quickest of some; megabytes that it holds in the end; games held at most."""
    times = []
    for _ in range(ROUNDS):
        env = make()
        gc.collect()
        started = time.perf_counter()
        tree(env, actions, turns)
        times.append(time.perf_counter() - started)
    tracemalloc.start()
    env = make()
    most, nodes = tree(env, actions, turns)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del nodes
    return min(times) * 1e3, held / 1e6, most


def main() -> None:
    """Measure, print and save."""
    lines = [
        f"Python {platform.python_version()}, {platform.machine()}, one thread on a shared machine of 2 cores, no GPU; "
        f"a tree of {LEAVES} leaves, {CHAINS} of them chains; quickest of {ROUNDS}",
        "held: megabytes at the end, with every snapshot; games: live ones beside those of open paths, at most",
        "",
        f"{'game':<28}{'forked by':<20}" + "".join(f"{f'{turns} turns':>12}{'held':>8}{'games':>7}" for turns in TURNS),
    ]
    games = (
        ("the same, plain", Numbers),
        ("with 10,000 cells to copy", partial(Numbers, board=10_000)),
        ("with steps of 5 ms", partial(Numbers, seconds=0.005)),
    )
    cases: list[tuple[str, str, Callable[[int], TaskEnv[Any]], Callable[[Any], str]]] = [
        ("ToolEnv", "itself", _native, tools_action)
    ]
    ways: tuple[tuple[str, How, int], ...] = (
        ("copy", "copy", 64),
        ("copy, max_live=8", "copy", 8),
        ("replay", "replay", 64),
    )
    for name, game in games:
        for said, how, live in ways:
            cases.append((name, said, partial(_forked, game, how, live), plain_action))
    for name, said, make, actions in cases:
        line = f"{name:<28}{said:<20}"
        for turns in TURNS:
            milliseconds, held, most = measure(partial(make, turns), actions, turns)
            line += f"{milliseconds:>9.1f} ms{held:>8.2f}{most:>7}"
        lines.append(line)
    text = "\n".join(lines) + "\n"
    print(text, end="")
    (Path(__file__).parent / "results" / "forks.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
