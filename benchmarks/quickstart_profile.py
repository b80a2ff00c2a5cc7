"""Where each second of the quick start goes: the real run, timed part by part.

    python -m benchmarks.quickstart_profile [--steps 60] [key=value …]

Trains the quick start for so many steps, whatever time they take, in a directory that is thrown
away. A moment belongs to the first of these that is at work on any thread: evaluation, prefill (prompts read and their
first tokens sampled), decode (every further token), search, update (packing, forward, backward, optimiser). What is
left is everything else: starting up, environments, text to ids and back, trees, credit, metrics, checkpoints.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from at2po_agent.policy.local.batch import Batch
from at2po_agent.training.config import load_config
from at2po_agent.training.display import Display
from at2po_agent.training.run_dir import RunDirectory
from at2po_agent.training.trainer import _Trainer, train
from at2po_agent.update.updater import Updater
from search_backend.embedded.backend import EmbeddedIndex

RESULTS = Path(__file__).parent / "results" / "quickstart_profile.txt"
PARTS: dict[str, tuple[Any, str]] = {  # first come, first served
    "evaluation": (_Trainer, "_evaluate"),
    "prefill": (Batch, "admit"),
    "decode": (Batch, "step"),
    "search": (EmbeddedIndex, "search"),
    "update": (Updater, "update"),
}

Interval = tuple[float, float]


def timed(owner: Any, name: str) -> list[Interval]:
    """Let every call of a method note when it ran."""
    found: list[Interval] = []
    method = getattr(owner, name)

    @functools.wraps(method)
    def noting(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            found.append((started, time.perf_counter()))

    setattr(owner, name, noting)
    return found


def seconds_by_part(intervals: dict[str, list[Interval]]) -> dict[str, float]:
    """Seconds of each part in which no part before it was at work."""
    found: dict[str, float] = {}
    before: list[Interval] = []
    for part, own in intervals.items():
        together = _union([*before, *own])
        found[part] = _length(together) - _length(before)
        before = together
    return found


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args()
    intervals = {part: timed(*where) for part, where in PARTS.items()}
    with tempfile.TemporaryDirectory() as folder:
        limits = [f"train.steps={arguments.steps}", "train.max_seconds=null", f"run_dir={folder}/run"]
        config = load_config("quickstart", [*limits, *arguments.overrides])
        started, used = time.perf_counter(), time.process_time()
        with RunDirectory.create(config) as run, Display(arguments.steps) as display:
            result = train(config, run=run, display=display)
        whole, used = time.perf_counter() - started, time.process_time() - used
    found = seconds_by_part(intervals)
    found["everything else"] = whole - sum(found.values())
    lines = [f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores"]
    lines += [f"{result.steps} steps: {result.seconds:.1f} s of training, {result.generated_tokens:,} tokens generated"]
    lines += [f"{'':18}{'seconds':>10}{'share':>9}"]
    lines += [f"{part:18}{seconds:>10.1f}{seconds / whole:>9.1%}" for part, seconds in found.items()]
    lines += [f"{'all':18}{whole:>10.1f}{'':9}  {used / whole:.2f} cores busy"]
    text = "\n".join(lines)
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
