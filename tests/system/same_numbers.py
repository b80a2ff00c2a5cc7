"""Reference runs: the quick start, every algorithm and an evaluation, in few steps and with every number kept.

``python -m tests.system.same_numbers`` runs them and writes ``same_numbers.json`` beside this file. Do that only in a
change that is meant to change what training computes, and say so in its commit.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tests.helpers.places import ROOT

COMMAND = Path(sys.executable).with_name("at2po-agent")
STORED = Path(__file__).with_suffix(".json")
ALGORITHMS = {
    "at2po": "{name: at2po, expansion: {chains: 4, per_round: 2, rounds: 2}}",
    "grpo": "{name: grpo, expansion: {n: 8}, objective: {kl_coef: 1.0e-3}}",
    "dapo": "{name: dapo, expansion: {n: 8}, groups: {max_batches: 2}}",
    "gspo": "{name: gspo, expansion: {n: 8}}",
    "aepo": "{name: aepo, expansion: {chains: 4, leaves: 8, dynamic_start: true}}",
    "tree_grpo": "{name: tree_grpo, expansion: {leaves: 8}}",
}
TRAIN = ["train.max_seconds=null", "processes=1", "threads=1", "log.trees_every=0", "eval.questions=40"]
RUNS = {
    "quickstart": ["train.steps=6", "eval.questions=100"],
    **{
        name: ["train.steps=2", "rollout.questions=8", "update.mini_batch=8", f"algorithm={algorithm}"]
        for name, algorithm in ALGORITHMS.items()
    },
}
EVALUATION = ["-e", "microwiki", "-m", "builtin:microwiki", "-n", "40", "env.k=1", "env.dialect=bare"]
NAMES = (*RUNS, "eval")


def machine() -> dict[str, str]:
    """What decides the last bits of a float beside the code: another processor or torch may round otherwise."""
    return {"torch": version("torch"), "cpu": torch.backends.cpu.get_cpu_capability()}


def numbers(name: str, folder: Path) -> list[dict[str, Any]]:
    """Run one of ``NAMES`` in ``folder`` and return its numbers, line by line, without timings."""
    if name == "eval":
        _run(["eval", *EVALUATION, "env.max_searches=4", "threads=1", f"out={folder}"])
        (run,) = folder.iterdir()
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        del summary["seconds_each"]
        return [summary]
    _run(["train", "--cfg", "quickstart", *TRAIN, *RUNS[name], f"run_dir={folder / name}"])
    lines = (folder / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "time"} for line in lines]


def _run(words: list[str]) -> None:
    done = subprocess.run([str(COMMAND), *words], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = {name: numbers(name, Path(folder) / f"of-{name}") for name in NAMES}
    STORED.write_text(json.dumps({"machine": machine(), "runs": found}, indent=1) + "\n", encoding="utf-8")
