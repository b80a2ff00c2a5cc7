"""What a long ``train`` holds: resident memory, open files and threads over time, and how memory grows after warm-up.

Run it with ``python -m benchmarks.soak --minutes 30``; it prints a table and writes it to
``benchmarks/results/soak.txt``. The run is the quick start's on the generated world, in a process of its own, with an
evaluation and a checkpoint every ten steps and every tree stored, ended by SIGTERM. What is sampled every two seconds
is the whole process: Python, torch, the engine's cache and the search index.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

OVERRIDES = (
    "train.steps=1000000",
    "train.max_seconds=null",
    "eval.questions=100",
    "eval.every=10",
    "eval.at_end=false",
    "checkpoint.every=10",
    "log.trees_every=1",
    "processes=1",
)
EVERY_SECONDS = 2.0
WARM_UP = 1 / 3  # of the samples: caches fill and the allocator finds its level
FLAT_SHARE = 0.02  # what memory may grow by in an hour, of what it is, to be called flat


@dataclass(frozen=True)
class Sample:
    """What the process held at one moment."""

    minute: float
    rss: float  # MB, resident
    private: float  # MB of it that no other process shares and no file backs
    files: int  # open descriptors
    threads: int


@dataclass(frozen=True)
class Slope:
    """A straight line through a quantity over time: the medians of ten stretches, so that peaks do not decide."""

    per_hour: float
    level: float  # median

    @classmethod
    def of(cls, minutes: Sequence[float], values: Sequence[float]) -> Slope:
        """Least squares through the medians of ten stretches of equal numbers of samples."""
        stretches = np.array_split(np.column_stack([minutes, values]), min(10, len(values)))
        middle = np.array([np.median(stretch, axis=0) for stretch in stretches])
        slope = float(np.polyfit(middle[:, 0], middle[:, 1], 1)[0]) if len(middle) > 1 else 0.0
        return cls(slope * 60, float(np.median(values)))

    @property
    def is_flat(self) -> bool:
        """Whether an hour adds less than a fiftieth."""
        return self.per_hour <= FLAT_SHARE * self.level


def take(process: psutil.Process, started: float) -> Sample:
    """A sample of a running process."""
    with process.oneshot():
        memory = process.memory_full_info()
        minute = (time.monotonic() - started) / 60
        return Sample(minute, memory.rss / 1e6, memory.uss / 1e6, process.num_fds(), process.num_threads())


def watch(command: Sequence[str], minutes: float) -> tuple[list[Sample], str]:
    """Run a command, sample it, and end it with SIGTERM after so many minutes; returns its output too.

    Raises:
        RuntimeError: it ended by itself, or not as a run that was stopped.
    """
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
        process, started, samples = psutil.Process(child.pid), time.monotonic(), []
        while time.monotonic() - started < minutes * 60 and child.poll() is None:
            time.sleep(EVERY_SECONDS)
            if child.poll() is None:
                samples.append(take(process, started))
        ended_early = child.poll() is not None
        child.send_signal(signal.SIGTERM)
        child.wait()
        output.seek(0)
        text = output.read()
    if ended_early or child.returncode != 128 + signal.SIGTERM:
        raise RuntimeError(f"train ended with status {child.returncode}:\n{text[-3000:]}")
    return samples, text


def table(samples: Sequence[Sample]) -> list[str]:
    """One row a minute, the slopes after the warm-up, and whether each quantity is flat."""
    lines = ["minute    resident MB     private MB   open files   threads"]
    for minute in range(int(samples[-1].minute) + 1):
        here = [sample for sample in samples if minute <= sample.minute < minute + 1]
        if here:
            rss, private = (np.median([getattr(one, name) for one in here]) for name in ("rss", "private"))
            files, threads = max(one.files for one in here), max(one.threads for one in here)
            lines.append(f"{minute:6d} {rss:14.1f} {private:14.1f} {files:12d} {threads:9d}")
    after = samples[int(len(samples) * WARM_UP) :]
    minutes = [sample.minute for sample in after]
    lines += ["", f"after minute {after[0].minute:.0f}, a line through the medians of ten stretches:"]
    for name, unit in (("rss", "MB resident"), ("private", "MB private"), ("files", "files"), ("threads", "threads")):
        slope = Slope.of(minutes, [float(getattr(sample, name)) for sample in after])
        verdict = "flat" if slope.is_flat else "NOT flat"
        lines.append(f"{slope.level:10.1f} {unit:12s} {slope.per_hour:+9.2f} an hour: {verdict}")
    return lines


def main() -> None:
    """Train, watch, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=30.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        words = ["train", "--cfg", "quickstart", f"run_dir={run}", *OVERRIDES]
        samples, _ = watch([sys.executable, "-m", "at2po_agent", *words], minutes)
        logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = max(line["step"] for line in logged)
    evaluations = sum("eval_em" in line for line in logged)
    head = [
        f"Python {platform.python_version()}, {platform.machine()}, one thread; train on MicroWiki (small) for",
        f"{minutes:g} minutes: {steps} steps of 32 trees, each stored, {evaluations} evaluations,",
        f"{steps // 10} checkpoints; median of each minute (files and threads: its largest)",
        "",
    ]
    text = "\n".join([*head, *table(samples)]) + "\n"
    print(text, end="")
    (Path(__file__).parent / "results" / "soak.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
