from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from at2po_agent.commands import main as cli
from at2po_agent.training.config import load_config
from tests.helpers.places import ROOT

CONFIG = "env: {id: AT2PO-MicroWiki-v0}\npolicy: {path: 'builtin:microwiki'}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    return path


def command(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "at2po_agent", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd or ROOT, env=environment)


def test_the_command_runs_as_a_process_and_says_one_line(tmp_path: Path):
    done = command("train", "--cfg", tmp_path / "none.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"at2po-agent: error: {tmp_path / 'none.yaml'}: no such file\n"


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom at2po_agent.commands.main import main\n"
        "try: main(['train', '--help'])\nexcept SystemExit as e: assert e.code == 0\n"
        "print(sorted({'torch', 'transformers', 'gymnasium'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "--print-config" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_print_config_takes_overrides_anywhere(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "seed=3", "--cfg", str(file), "train.steps=5", "--print-config", "name=x"]) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert load_config(tmp_path / "printed.yaml") == load_config(file, ["seed=3", "train.steps=5", "name=x"])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--cfg", "{file}", "train.lr=1"], "there is no key 'train.lr'; did you mean update.lr?"),
        (["train"], "env.id is not set"),
        (["train", "--resume", "{tmp}/nothing"], "is not a run directory"),
        (["train", "--resume", "{tmp}", "--cfg", "{file}"], "--cfg for a new run or --resume"),
        (["train", "--cfg", "{file}", "run_dir={tmp}"], "already exists; continue it with --resume"),
        (["show-tree", "{tmp}"], "has no stored trees"),
        (["show-tree", "{tmp}/nothing"], "there is no run directory {tmp}/nothing"),
        (["export", "{tmp}/nothing", "{tmp}/out"], "nothing is not a checkpoint"),
        (["gates", "No-Such-Env-v0"], "No-Such-Env"),
        (["gates", "X-v0", "questions"], "write it as key=value"),
        (["gates", "X-v0", "--import", "no_such_module_here"], "no_such_module_here"),
    ],
)
def test_foreseen_errors_are_one_line(
    words: list[str], message: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    status = cli.main([word.format(file=file, tmp=tmp_path) for word in words])
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.startswith("at2po-agent: error: ")
    assert message.format(tmp=tmp_path) in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize("words", [["frobnicate"], ["train", "--bad"], ["export", "x"], ["show-tree", "x", "y=1"], []])
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert "usage: at2po-agent" in capsys.readouterr().err


def test_an_error_that_nobody_foresaw_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("at2po_agent.training.stored_trees.find_tree", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main(["show-tree", "anywhere"])


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
sys.exit(main(["train", "env.id=X-v0", "policy.path=p", "run_dir=" + sys.argv[1]]))
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
    assert f"go on with: at2po-agent train --resume {tmp_path / 'run'}" in out
    assert "Traceback" not in err


def test_the_second_signal_ends_at_once(tmp_path: Path):
    process = started(tmp_path, linger=600.0)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline() == "\n"
    assert "once more to end at once" in process.stderr.readline()
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert time.monotonic() - asked < 10
    process.communicate()
