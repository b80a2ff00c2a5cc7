"""What a step, a snapshot, a restore and a fork cost, beside ``copy.deepcopy``; and what 1,000 episodes at once hold.

Run it with ``python benchmarks/env_step.py``; it prints a table and writes it to ``benchmarks/results/env_step.txt``.
Steps run without a search (its cost is the backend's; ``benchmarks`` has that apart): the search answers at once with
three passages of 100 words, so that rendering them is counted.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import platform
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from at2po_env import Dataset, Question, SearchQAEnv
from at2po_env.rules import Rules
from search_backend.base import Hit, Manifest, Passage

DEPTHS = (1, 10, 100, 1000)
SEARCH = "<think>" + "some words of thought " * 20 + "</think><search>a query of six words here</search>"
ANSWER = "<think>" + "some words of thought " * 20 + "</think><answer>Paris</answer>"
EPISODES, TURNS = 1000, (0, 1, 2, 4, 8)
GOALS = {"step": 50.0, "snapshot": 5.0, "restore": 20.0}  # µs, at any depth


class InstantSearch:
    """Answers every query with the same three passages."""

    manifest = Manifest("instant", "benchmark", 3, "none")

    def __init__(self) -> None:
        text = " ".join(f"word{n}" for n in range(100))
        self._hits = [Hit(Passage(str(n), f"Title {n}", text), 1.0) for n in range(3)]

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The same hits for every query."""
        return [self._hits for _ in queries]

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """As ``search``."""
        return self.search(queries, k)

    def close(self) -> None:
        """Nothing to release."""


def make_env(questions: int) -> SearchQAEnv:
    """An environment that may search without end, over so many questions."""
    dataset = Dataset.of(Question(f"q{n}", f"Where is thing {n}?", ("Paris",)) for n in range(questions))
    return SearchQAEnv(dataset, InstantSearch(), Rules.of(max_searches=10_000))


def at_depth(depth: int, questions: int) -> SearchQAEnv:
    """An environment after ``depth`` searches."""
    env = make_env(questions)
    env.reset(seed=1)
    for _ in range(depth):
        env.step(SEARCH)
    return env


def microseconds(action: Callable[[], object], repeats: int, undo: Callable[[], object] = lambda: None) -> float:
    """The median time of ``action`` in the quickest of five rounds; ``undo`` runs after each and is not counted.

    Other programs slow whole rounds down, and a collection in the middle of one is part of its price.
    """
    medians = []
    for _ in range(5):
        gc.collect()
        times = []
        for _ in range(max(repeats // 5, 1)):
            started = time.perf_counter_ns()
            action()
            times.append(time.perf_counter_ns() - started)
            undo()
        medians.append(float(np.median(times)) / 1000)
    return min(medians)


def measure(depth: int, questions: int) -> dict[str, float]:
    """Median microseconds of each operation at one depth."""
    env = at_depth(depth, questions)
    here = env.snapshot()

    def back() -> None:
        env.restore(here)

    return {
        "search step": microseconds(lambda: env.step(SEARCH), 2000, back),
        "step": microseconds(lambda: env.step(ANSWER), 2000, back),
        "snapshot": microseconds(env.snapshot, 20_000),
        "restore": microseconds(back, 20_000),
        "fork(1)": microseconds(lambda: env.fork(1), 500),
        "deepcopy(env)": microseconds(lambda: copy.deepcopy(env), 5),
    }


async def play(turns: int) -> tuple[float, float]:
    """Megabytes that 1,000 episodes hold after so many turns each, played at the same time; and the text among it."""
    dataset = make_env(EPISODES).dataset
    search = InstantSearch()
    tracemalloc.start()
    envs = [SearchQAEnv(dataset, search, Rules.of(max_searches=10_000)) for _ in range(EPISODES)]
    for number, env in enumerate(envs):
        env.reset(seed=number)
    written = 0
    for turn in range(turns):
        actions = [SEARCH.replace("<think>", f"<think>{turn} {number} ") for number in range(EPISODES)]
        results = await asyncio.gather(*(env.astep(action) for env, action in zip(envs, actions, strict=True)))
        written += sum(map(len, actions)) + sum(len(result[0]) for result in results)
        del actions, results
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held / 1e6, written / 1e6


def main() -> None:
    """Measure, print and save."""
    lines = [
        f"Python {platform.python_version()}, {platform.machine()}, one thread; median µs, best of 5 rounds",
        "step: an answer, parsed and scored; search step: a search, its three passages of 100 words rendered",
        "",
    ]
    rows = {depth: measure(depth, questions=100) for depth in DEPTHS}
    names = list(rows[DEPTHS[0]])
    lines.append("depth".rjust(6) + "".join(name.rjust(15) for name in names))
    for depth, row in rows.items():
        lines.append(f"{depth:6d}" + "".join(f"{row[name]:15.2f}" for name in names))
    lines.append("")
    for name, goal in GOALS.items():
        worst = max(row[name] for row in rows.values())
        lines.append(f"{name}: at most {worst:.2f} µs, goal {goal:g} µs: {'met' if worst <= goal else 'NOT met'}")
    lines += ["", f"{EPISODES:,} episodes in one process, searching at the same time:"]
    for turns in TURNS:
        held, written = asyncio.run(play(turns))
        lines.append(f"{turns:6d} turns each: {held:7.2f} MB held, of which the text of their turns {written:6.2f} MB")
    text = "\n".join(lines) + "\n"
    print(text, end="")
    (Path(__file__).parent / "results" / "env_step.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
