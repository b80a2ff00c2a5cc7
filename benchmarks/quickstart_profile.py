"""Where each second of the quick start goes, in one process and in the two that it is configured with.

    python -m benchmarks.quickstart_profile [--steps 16] [key=value …]

Trains the quick start for so many steps both ways, each in processes of its own and in a directory that is thrown away,
and shows the first process's time. A moment belongs to the first of these that is at work on any of its threads:
evaluation, waiting for the other process (exchanges of trees and gradients), prefill (prompts read and their first
tokens sampled), decode (every further token), search, update (packing, forward, backward, optimiser). Starting is what
comes before the first evaluation: Python, imports, the index, the policy. What is left is everything else:
environments, text to ids and back, trees, credit, metrics, checkpoints.
"""

from __future__ import annotations

import time

BEGUN = time.time()  # before the imports that take seconds

import argparse  # noqa: E402
import functools  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import psutil  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "quickstart_profile.txt"
WAYS = {  # overrides
    "one process, a thread per core": ("processes=1", "threads=0"),
    "one process, one thread": ("processes=1",),
    "two processes (first one)": (),
}

Interval = tuple[float, float]


def timed(owner: Any, name: str) -> list[Interval]:
    """Let every call of a method note when it ran."""
    intervals: list[Interval] = []
    method = getattr(owner, name)

    @functools.wraps(method)
    def noting(*args: Any, **kwargs: Any) -> Any:
        started = time.time()
        try:
            return method(*args, **kwargs)
        finally:
            intervals.append((started, time.time()))

    setattr(owner, name, noting)
    return intervals


def seconds_by_part(intervals: dict[str, list[Interval]]) -> dict[str, float]:
    """Seconds of each part in which no part before it was at work."""
    seconds: dict[str, float] = {}
    before: list[Interval] = []
    for part, own in intervals.items():
        together = _union([*before, *own])
        seconds[part] = _length(together) - _length(before)
        before = together
    return seconds


def _union(intervals: list[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _length(intervals: list[Interval]) -> float:
    return sum(end - start for start, end in intervals)


def profile(overrides: Sequence[str]) -> dict[str, Any]:
    """Train in this process and those that it starts, as the command does, and time this one."""
    from at2po_agent.commands.main import main as command
    from at2po_agent.policy.local.batch import Batch
    from at2po_agent.training.run_dir import read_metrics
    from at2po_agent.training.trainer import _Trainer
    from at2po_agent.update.forwarding import Forwarding
    from at2po_agent.update.processes import Processes
    from at2po_agent.update.updater import Updater
    from search_backend.embedded.backend import EmbeddedIndex

    waits = [timed(Processes, "gather"), timed(Forwarding, "sum_gradients")]
    parts: dict[str, list[Interval]] = {  # first come, first served
        "prefill": timed(Batch, "admit"),
        "decode": timed(Batch, "step"),
        "search": timed(EmbeddedIndex, "search"),
        "update": timed(Updater, "update"),
    }
    evaluations, runs = timed(_Trainer, "_evaluate"), timed(_Trainer, "run_to_end")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        if status := command(["train", "--cfg", "quickstart", "train.max_seconds=null", f"run_dir={run}", *overrides]):
            sys.exit(status)
        steps = [line for line in read_metrics(run) if "time" in line and "step" in line["time"]]
    starting = runs[0][0]
    seconds = {"starting": starting - BEGUN}
    waiting = [wait for wait in [*waits[0], *waits[1]] if wait[0] >= starting]
    within = {"evaluation": evaluations, "waiting": waiting, **parts}
    seconds |= seconds_by_part(within)
    seconds["everything else"] = time.time() - BEGUN - sum(seconds.values())
    return {
        "seconds": seconds,
        "training": sum(line["time"]["step"] for line in steps),
        "tokens": sum(line["generated_tokens"] for line in steps),
    }


def measured(overrides: Sequence[str]) -> dict[str, Any]:
    """``profile`` in a process of its own, and the processor seconds of that and its children."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        before, started = psutil.cpu_times(), time.time()
        subprocess.run([sys.executable, "-m", "benchmarks.quickstart_profile", "--into", file, *overrides], check=True)
        found: dict[str, Any] = json.loads(file.read_text())
        after = psutil.cpu_times()
        found["whole"] = time.time() - started
    found["busy"] = (after.user + after.system - before.user - before.system) / found["whole"]
    return found


def table(ways: dict[str, dict[str, Any]]) -> list[str]:
    """A row for each part, a column for each way."""
    rows = [f"{'seconds':18}" + "".join(f"{way:>32}" for way in ways)]
    for part in next(iter(ways.values()))["seconds"]:
        rows.append(f"{part:18}" + "".join(f"{found['seconds'][part]:32.1f}" for found in ways.values()))
    for name, text in (("whole", "all"), ("training", "of it training")):
        rows.append(f"{text:18}" + "".join(f"{found[name]:32.1f}" for found in ways.values()))
    rows.append(f"{'tokens generated':18}" + "".join(f"{found['tokens']:32,}" for found in ways.values()))
    rows.append(
        f"{'tokens a second':18}" + "".join(f"{found['tokens'] / found['training']:32,.0f}" for found in ways.values())
    )
    rows.append(f"{'cores busy':18}" + "".join(f"{found['busy']:32.2f}" for found in ways.values()))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args()
    if arguments.into:
        arguments.into.write_text(json.dumps(profile(arguments.overrides)))
        return
    import torch

    overrides = [f"train.steps={arguments.steps}", *arguments.overrides]
    ways = {way: measured([*overrides, *changes]) for way, changes in WAYS.items()}
    text = "\n".join([f"torch {torch.__version__}, {os.cpu_count()} cores, {arguments.steps} steps", *table(ways)])
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
