"""Seconds of a training step with SGLang: sampling and updating in turn, and beside each other (train.staleness=1).

    OMP_NUM_THREADS=1 taskset -c 1 python -m sglang.launch_server --model-path at2po_agent/data/microwiki --port 30000 …
    python -m benchmarks.overlap http://127.0.0.1:30000 [--steps 6] [--repeats 3] [--set key=value …]
    python -m benchmarks.overlap http://127.0.0.1:30000 --learn --set update.epochs=5

The server has one core and the trainer, which this puts on the core of ``--core``, another, in both modes: what is
faster is not so because it has more of the machine. The quick start's world, policy and trees, and as many passes over
these (``update.epochs``) as make an update about as long as a rollout; that is measured first, unless ``--set`` has it.
The modes take turns; the first step, in which both have to wait for the trees, and the last are left out.

With ``--learn``, both train instead from the same start to the same number of generated tokens, on each seed, and are
evaluated on the same unseen questions.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from rich.console import Console

from at2po_agent.training.config import load_config
from at2po_agent.training.display import Display
from at2po_agent.training.metrics import Result, Scores
from at2po_agent.training.run_dir import RunDirectory
from at2po_agent.training.trainer import train

RESULTS = Path(__file__).parent / "results"
MODES = {"in turn": 0, "overlapped": 1}  # and train.staleness
SHAPE = ["rollout.questions=16", "update.mini_batch=16", "threads=1"]
TOKENS = 75_000  # generated until the policy is evaluated
PARTS = ("step", "rollout", "update", "overlap")  # seconds


def run(url: str, mode: str, overrides: Sequence[str]) -> tuple[Result, list[dict[str, Any]]]:
    """Train once, in a directory that is thrown away; the result, and the metrics of every step."""
    with tempfile.TemporaryDirectory() as folder:
        words = [f"engine.urls=[{url}]", f"train.staleness={MODES[mode]}", f"run_dir={folder}/run", *SHAPE, *overrides]
        config = load_config("microwiki_sglang", words)
        with RunDirectory.create(config) as directory, Display(1, console=Console(quiet=True)) as display:
            result = train(config, run=directory, display=display)
            return result, [line for line in directory.metrics() if "leaves" in line]


def balance(url: str, overrides: Sequence[str]) -> list[str]:
    """The overrides, and passes over the trees with which an update takes about as long as their rollout."""
    if any(word.startswith("update.epochs=") for word in overrides):
        return list(overrides)
    updates: list[float] = []
    for epochs in (1, 5):  # as a part of an update is the same for any number: packing, sending the weights
        _, lines = run(url, "in turn", [*short(3), *overrides, f"update.epochs={epochs}"])
        rollout, update = (median(line["time"][part] for line in lines[1:]) for part in ("rollout", "update"))
        updates.append(update)
    epoch = (updates[1] - updates[0]) / 4
    return [*overrides, f"update.epochs={max(1, round(1 + (rollout - updates[0]) / epoch))}"]


def short(steps: int) -> list[str]:
    """Overrides for a run of so many steps between its first and its last."""
    return [f"train.steps={steps + 2}", "train.max_seconds=null", "eval.questions=0", "checkpoint.every=0"]


def speed(url: str, steps: int, repeats: int, overrides: Sequence[str]) -> list[str]:
    """Seconds of a step in both modes, and what they are made of."""
    times: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for _ in range(repeats):
        for mode in MODES:
            _, lines = run(url, mode, [*short(steps), *overrides])
            # Not the first step, nor the last, beside which nothing is sampled.
            times[mode].append({part: median(line["time"][part] for line in lines[1:-1]) for part in PARTS})
    rows = [f"{repeats} runs of {steps} steps in each mode, in turn; medians"]
    rows.append(f"{'seconds':12}" + "".join(f"{part:>10}" for part in PARTS))
    for mode, runs in times.items():
        rows.append(f"{mode:12}" + "".join(f"{median(one[part] for one in runs):10.2f}" for part in PARTS))
    before, after = (times[mode] for mode in MODES)
    ratios = [new["step"] / old["step"] for old, new in zip(before, after, strict=True)]
    pairs = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return [*rows, f"a step takes {median(ratios):.2f} of the time in turn (pairs: {pairs})"]


def learning(url: str, seeds: Sequence[int], tokens: int, overrides: Sequence[str]) -> list[str]:
    """Exact match after the same number of generated tokens in both modes, paired by seed and question."""
    long = [f"train.max_tokens={tokens}", "train.max_seconds=null", "log.trees_every=0", "checkpoint.every=0"]
    rows = [f"{'seed':>4}  {'mode':12}{'steps':>6}{'tokens':>9}{'seconds':>9}{'EM':>8}"]
    gains: list[float] = []
    pairs: dict[str, list[float]] = {mode: [] for mode in MODES}
    for seed in seeds:
        results: dict[str, Scores] = {}
        for mode in MODES:
            at_start = ["eval.at_start=true" if mode == "in turn" and seed == seeds[0] else "eval.at_start=false"]
            result, _ = run(url, mode, [*long, *at_start, f"seed={seed}", *overrides])
            assert result.after is not None
            if result.before is not None:
                rows.insert(0, f"before training: {result.before.mean:.1%} of {len(result.before.values)} questions")
            results[mode] = result.after
            pairs[mode] += result.after.values
            told = f"{result.steps:6}{result.generated_tokens:9,}{result.seconds:9.1f}{result.after.mean:8.1%}"
            rows.append(f"{seed:4}  {mode:12}{told}")
        before, after = (results[mode] for mode in MODES)
        gains.append(100 * (after.mean - before.mean))
    together = after.gain(pairs["in turn"], pairs["overlapped"])
    told = ", ".join(f"{gain:+.1f}" for gain in gains)
    rows.append(
        f"overlapped − in turn: {fmean(gains):+.1f} points (seeds: {told}); over all pairs "
        f"{100 * together.mean:+.1f} [{100 * together.low:+.1f}, {100 * together.high:+.1f}]"
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--core", type=int, default=0, help="of this process; the server is on another")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--learn", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value", help="further settings")
    arguments = parser.parse_args()
    for thread in os.listdir("/proc/self/task"):  # imports have started some
        os.sched_setaffinity(int(thread), {arguments.core})
    overrides = arguments.set if arguments.learn else balance(arguments.url, arguments.set)
    report = [f"torch {torch.__version__}; server and trainer on a core each; {' '.join([*SHAPE, *overrides])}"]
    if arguments.learn:
        report += learning(arguments.url, arguments.seeds, arguments.tokens, overrides)
    else:
        report += speed(arguments.url, arguments.steps, arguments.repeats, overrides)
    text = "\n".join(report) + "\n"
    print(text, end="")
    name = "overlap_learning.txt" if arguments.learn else "overlap.txt"
    (RESULTS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
