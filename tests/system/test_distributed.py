"""Two processes that ``torchrun`` or the command starts, over gloo: they are one run, and end as one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.at2po_agent.training.test_trainer import SMALL, TREE, metrics, run
from tests.helpers.places import ROOT

pytestmark = pytest.mark.slow


def torchrun(*words: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def last_weights(path: Path) -> dict[str, torch.Tensor]:
    (file,) = (max(path.glob("checkpoints/step_*")) / "model").glob("*model.safetensors")  # of a model or its adapters
    return load_file(file)


def assert_alike(one: Path, other: Path) -> None:
    """Equal but for the rounding of sums in another order, which AdamW makes larger where a gradient is near 0."""
    ours, theirs = metrics(one), metrics(other)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    # Two prefix caches share less than one; and on policy, the KL that is spread over the turns is rounding alone.
    apart = {"prefilled_tokens", "update_turn_kl_entropy"}
    for mine, other_line in zip(ours, theirs, strict=True):
        assert mine.keys() == other_line.keys()
        for name in mine.keys() - apart:
            assert mine[name] == pytest.approx(other_line[name], rel=1e-3, abs=1e-5), name
    w, v = last_weights(one), last_weights(other)
    assert w.keys() == v.keys()
    assert max(float((w[name] - v[name]).abs().max()) for name in w) < 1e-3  # one step's size
    changed = sum(int(((w[name] - v[name]).abs() > 1e-5).sum()) for name in w)
    assert changed < 1e-4 * sum(tensor.numel() for tensor in w.values())


def test_two_processes_are_one_run_and_exchange_checkpoints_with_one(tmp_path: Path) -> None:
    run(tmp_path / "begun-by-one", "train.steps=2")
    run(tmp_path / "straight", "train.steps=2")
    work = torchrun("-m", "tests.helpers.distributed_worker", tmp_path)
    _, errors = work.communicate(timeout=280)
    assert work.returncode == 0, errors[-4000:]
    assert sorted(path.name for path in (tmp_path / "two" / "trees").iterdir()) == [
        "step_000001.jsonl.zst",
        "step_000002.jsonl.zst",
    ]
    run(tmp_path / "two", "train.steps=3", resume=True)  # written by two, gone on with by one
    run(tmp_path / "straight", "train.steps=3", resume=True)
    assert_alike(tmp_path / "two", tmp_path / "straight")
    assert_alike(tmp_path / "begun-by-one", tmp_path / "straight")  # written by one, gone on with by two
    run(tmp_path / "lora", "train.steps=1", "eval.questions=0", "lora={rank: 4, alpha: 8}")
    assert_alike(tmp_path / "two-lora", tmp_path / "lora")
    run(tmp_path / "grpo", "train.steps=1", "eval.questions=0", algorithm="{name: grpo}")
    assert_alike(tmp_path / "two-grpo", tmp_path / "grpo")


def test_a_killed_process_ends_the_run_which_can_go_on(tmp_path: Path) -> None:
    path = tmp_path / "run"
    long = [f"algorithm={TREE}", f"run_dir={path}", "train.steps=100000", "eval.questions=0", "checkpoint.every=1"]
    settings = [word for word in SMALL if not word.startswith(("train.", "eval.", "checkpoint."))]
    work = torchrun("-m", "at2po_agent", "train", *settings, *long)
    try:
        until = time.monotonic() + 200
        while not list(path.glob("checkpoints/step_*/checkpoint.json")):
            assert work.poll() is None and time.monotonic() < until
            time.sleep(0.2)
        second = [child for child in psutil.Process(work.pid).children() if child.environ().get("RANK") == "1"]
        second[0].send_signal(signal.SIGKILL)
        _, errors = work.communicate(timeout=60)
    finally:
        work.kill()
    assert work.returncode != 0
    assert errors.count("at2po-agent: error:") == errors.count("another process of the run is gone") == 1, errors
    assert f"another process of the run is gone, rank 1 (PID {second[0].pid} on " in errors
    done = max(line["step"] for line in metrics(path))
    assert run(path, f"train.steps={done + 1}", resume=True).steps == done + 1


def command(*words: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "at2po_agent", "train", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_that_the_command_starts_are_one_run_which_repeats_bit_for_bit(tmp_path: Path) -> None:
    settings = [*SMALL, f"algorithm={TREE}", "processes=2", "update.sharding=none"]
    run(tmp_path / "alone", "train.steps=3", "eval.every=0")
    for name, steps in (("straight", 3), ("resumed", 1)):
        work = command(*settings, f"run_dir={tmp_path / name}", f"train.steps={steps}", "eval.every=0")
        _, errors = work.communicate(timeout=200)
        assert work.returncode == 0, errors[-4000:]
    work = command("--resume", tmp_path / "resumed", "train.steps=3")
    _, errors = work.communicate(timeout=200)
    assert work.returncode == 0, errors[-4000:]
    assert_alike(tmp_path / "straight", tmp_path / "alone")
    assert metrics(tmp_path / "resumed")[-1] == metrics(tmp_path / "straight")[-1]
    sessions = json.loads((tmp_path / "straight" / "manifest.json").read_text())["sessions"]
    assert [session["machine"]["processes"] for session in sessions] == [2]
    ours, theirs = last_weights(tmp_path / "resumed"), last_weights(tmp_path / "straight")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    _, errors = (work := command("--resume", tmp_path / "resumed", "processes=1", "train.steps=4")).communicate()
    assert work.returncode == 0, errors[-4000:]


def test_ctrl_c_stops_the_command_and_its_processes_with_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run"
    settings = [word for word in SMALL if not word.startswith(("train.", "eval.", "checkpoint."))]
    work = command(
        *settings,
        "processes=2",
        f"algorithm={TREE}",
        f"run_dir={path}",
        "train.steps=100000",
        "eval.questions=0",
        "checkpoint.every=1",
    )
    try:
        until = time.monotonic() + 200
        while not list(path.glob("checkpoints/step_*/checkpoint.json")):
            assert work.poll() is None and time.monotonic() < until
            time.sleep(0.2)
        others = psutil.Process(work.pid).children()
        work.send_signal(signal.SIGINT)
        out, errors = work.communicate(timeout=60)
    finally:
        work.kill()
    assert work.returncode == 128 + signal.SIGINT
    assert len(others) == 1 and not psutil.pid_exists(others[0].pid)
    assert "stopping after this step" in errors and f"continue with: at2po-agent train --resume {path}" in out
    done = max(line["step"] for line in metrics(path))
    assert (path / "checkpoints" / f"step_{done:06d}" / "checkpoint.json").exists()


def said(work: subprocess.Popen[str]) -> list[str]:
    _, errors = work.communicate(timeout=200)
    assert work.returncode != 0
    return [line for line in errors.splitlines() if line.startswith("at2po-agent:")]


def test_what_is_wrong_is_said_once(tmp_path: Path) -> None:
    work = torchrun("-m", "at2po_agent", "train", "--cfg", tmp_path / "none.yaml")
    assert said(work) == [f"at2po-agent: error: {tmp_path / 'none.yaml'}: no such file"]
    (line,) = said(command(*SMALL, "processes=2", "env.kwargs={world: none}", f"run_dir={tmp_path / 'run'}"))
    assert "none" in line and not (tmp_path / "run").exists()
