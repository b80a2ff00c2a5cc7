"""``at2po-agent train`` as it is called, and how it is stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from at2po_agent.commands.main import main
from at2po_agent.policy import loading
from at2po_agent.training.config import load_config
from at2po_agent.training.run_dir import read_metrics
from tests.helpers.places import ROOT

CONFIG = "env: {id: AT2PO-MicroWiki-v0}\npolicy: {path: 'builtin:microwiki'}\n"
SMALL = [
    "env.kwargs={world: tiny, dialect: bare, k: 1, max_searches: 4}",
    "algorithm.expansion={chains: 4, per_round: 2, rounds: 1}",
    "rollout={questions: 4, max_turn_tokens: 24}",
    "eval.questions=4",
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    return path


def test_print_config_takes_overrides_anywhere(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "seed=3", "--cfg", str(file), "train.steps=5", "--print-config", "name=x"]) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert load_config(tmp_path / "printed.yaml") == load_config(file, ["seed=3", "train.steps=5", "name=x"])
    assert not (tmp_path / "runs").exists()


def test_a_run_is_trained_and_gone_on_with(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", "--cfg", str(file), *SMALL, "train.steps=1", f"run_dir={run}"]) == 0
    out, err = capsys.readouterr()
    assert err == "loading builtin:microwiki …\n"
    assert out.startswith(f"run directory: {run}\n") and "1 steps" in out
    assert main(["train", "--resume", str(run), "train.steps=2"]) == 0
    assert "continuing from step 1" in capsys.readouterr().out
    assert [line["step"] for line in read_metrics(run) if "reward" in line] == [1, 2]


def test_on_a_host_with_a_gpu_one_process_trains(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "device_of", lambda name: "cpu" if name == "cpu" else "cuda")
    words = [*SMALL, "processes=2", "policy.device=cpu", "train.steps=0", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", "--cfg", str(file), *words]) == 0
    assert "training in one process: processes=2 is for CPUs" in capsys.readouterr().err


# A trainer that loads nothing: it says when it runs, waits for the stop, and gives back a result.
FAKE_TRAINER = """
import sys, time, types
from at2po_agent.training.metrics import Result
module = types.ModuleType("at2po_agent.training.trainer")
def train_together(config, recorder, stop, processes):
    print("running", flush=True)
    while not stop.wait(0.01):
        pass
    time.sleep({linger})
    return Result(steps=3, seconds=1.0, generated_tokens=5, trees=6, stopped=True)
module.train_together = train_together
sys.modules["at2po_agent.training.trainer"] = module
from at2po_agent.commands.main import main
sys.exit(main(["train", "env.id=AT2PO-MicroWiki-v0", "policy.path=builtin:microwiki", "run_dir=" + sys.argv[1]]))
"""


def started(tmp_path: Path, linger: float) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", FAKE_TRAINER.format(linger=linger), str(tmp_path / "run")]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    for printed in process.stdout:
        if printed == "running\n":
            break
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_stops_cleanly_and_says_how_to_go_on(tmp_path: Path, number: int, status: int):
    process = started(tmp_path, linger=0.0)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "3 steps" in out
    assert f"continue with: at2po-agent train --resume {tmp_path / 'run'}" in out
    assert "Traceback" not in err


def test_the_second_signal_ends_at_once(tmp_path: Path):
    process = started(tmp_path, linger=600.0)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline() == "loading builtin:microwiki …\n"
    assert process.stderr.readline() == "\n"
    assert "once more to end at once" in process.stderr.readline()
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert time.monotonic() - asked < 10
    process.communicate()
