"""Runs the parts one after the other; see the package."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

from benchmarks.gpu.bundle import bundle
from benchmarks.gpu.machine import device_name

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
# Shares of the time; what a part leaves over goes to those after it.
PARTS = {"environment": 2, "tests": 3, "update": 6, "kernels": 1, "engine": 4, "sglang": 4, "train": 6}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure this machine's GPU.")
    parser.add_argument("--minutes", type=float, default=8.0, help="of all parts together (8)")
    parser.add_argument("--only", default=",".join(PARTS), metavar="PART,PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="collect what such a machine lacks, and end")
    parser.add_argument("--tiny", action="store_true", help="at sizes that a CPU runs in seconds")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="(benchmarks/results)")
    arguments = parser.parse_args()
    if arguments.bundle:
        bundle(ROOT, arguments.bundle)
        return 0
    chosen = arguments.only.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    file = arguments.results / f"gpu-{re.sub(r'[^A-Za-z0-9]+', '-', device_name()).strip('-')}.txt"
    deadline = time.monotonic() + 60 * arguments.minutes
    lines: list[str] = []
    failed = 0
    left = {name: share for name, share in PARTS.items() if name in chosen or name == "environment"}
    while left:
        name, share = next(iter(left.items()))
        seconds = (deadline - time.monotonic()) * share / sum(left.values())
        del left[name]
        failed += _run(name, max(1.0, seconds), arguments.tiny, lines)
        arguments.results.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {file}", flush=True)
    return 1 if failed else 0


def _run(name: str, seconds: float, tiny: bool, lines: list[str]) -> bool:
    """Run a part for at most ``seconds``, add its lines to ``lines``, and say whether it failed."""

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    say(f"=== {name} (at most {seconds:.0f} s)")
    module = "machine" if name == "environment" else name
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.gpu.{module}", "--seconds", f"{0.9 * seconds:.0f}"]
    began = time.monotonic()
    # A session of its own, so that servers and workers of a part that runs too long end with it.
    process = subprocess.Popen(
        [*command, *(["--tiny"] if tiny else [])],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    timer = Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    assert process.stdout is not None
    for line in process.stdout:
        say(line.rstrip("\n"))
    code = process.wait()
    timer.cancel()
    took = time.monotonic() - began
    if code:
        say(f"--- {name} failed after {took:.0f} s: {'out of time' if code < 0 else f'exit code {code}'}")
    else:
        say(f"--- {name} took {took:.0f} s")
    return code != 0


if __name__ == "__main__":
    sys.exit(main())
