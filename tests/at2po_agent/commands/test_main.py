from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from at2po_agent.commands import main as cli
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
        "print(sorted({'torch', 'transformers', 'gymnasium', 'omegaconf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "--print-config" in done.stdout
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--cfg", "{file}", "train.lr=1"], "there is no key 'train.lr'; did you mean update.lr?"),
        (["train"], "env.id is not set"),
        (["train", "--cfg", "{file}", "algorithm.name=ppo"], "algorithm.name: there is no 'ppo'"),
        (["train", "--cfg", "{file}", "env.id=AT2PO-Nothing-v0"], "env.id: Environment `AT2PO-Nothing` doesn't exist"),
        (["train", "--cfg", "{file}", "policy.path=builtin:x"], "there is no policy 'builtin:x'"),
        (["train", "--cfg", "{file}", "engine.kind=sglang"], "set deterministic=false"),
        (["warm-start", "--cfg", "{file}"], "there is no key 'policy'"),
        (["train", "--resume", "{tmp}/nothing"], "is not a run directory"),
        (["train", "--resume", "{tmp}", "--cfg", "{file}"], "--cfg for a new run, or --resume"),
        (["train", "--cfg", "{file}", "run_dir={tmp}"], "already exists; continue it with --resume"),
        (["show-tree", "{tmp}"], "has no stored trees"),
        (["show-tree", "{tmp}/nothing"], "there is no run directory {tmp}/nothing"),
        (["export", "{tmp}/nothing", "{tmp}/out"], "nothing is not a checkpoint"),
        (["gates", "No-Such-Env-v0"], "No-Such-Env"),
        (["gates", "X-v0", "questions"], "write it as key=value"),
        (["gates", "AT2PO-MicroWiki-v0", "--policy", "builtin:x"], "there is no policy 'builtin:x'"),
        (["retokenise", "builtin:microwiki", "X-v0", "k"], "write it as key=value"),
        (["retokenise", "builtin:x", "AT2PO-MicroWiki-v0"], "there is no policy 'builtin:x'"),
        (["eval", "-m", "builtin:microwiki", "-e", "AT2PO-Nothing-v0"], "env.id: Environment `AT2PO-Nothing`"),
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


def test_every_verb_has_its_file_and_every_file_its_test() -> None:
    here = Path(__file__).parent
    files = {path.stem for path in Path(cli.__file__).parent.glob("*.py")} - {"__init__", "main"}
    assert {verb.__name__.rpartition(".")[2] for verb in cli.VERBS} == files - {"exits", "options", "parsing"}
    assert {path.stem.removeprefix("test_") for path in here.glob("test_*.py")} == {*files, "main"}


@pytest.mark.parametrize("words", [["frobnicate"], ["train", "--bad"], ["export", "x"], ["show-tree", "x", "y=1"], []])
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert "usage: at2po-agent" in capsys.readouterr().err


LOADING = """
import sys
sys.modules.update({"torch": None, "transformers": None})
from at2po_agent.commands.main import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["train", "--cfg", "{file}"], "builtin:microwiki"),
        (["eval", "-m", "builtin:microwiki", "-e", "AT2PO-MicroWiki-v0"], "builtin:microwiki"),
        (["gates", "AT2PO-MicroWiki-v0", "--policy", "builtin:microwiki", "questions=1"], "builtin:microwiki"),
        (["retokenise", "builtin:microwiki", "AT2PO-MicroWiki-v0"], "builtin:microwiki"),
        (["warm-start", "--cfg", "{warm}", "output={tmp}/made"], "torch"),
        (["export", "{tmp}", "{tmp}/out"], "{tmp}"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_loading_is_said_before_torch_is_imported(words: list[str], what: str, file: Path, tmp_path: Path):
    names = {"file": file, "tmp": tmp_path, "warm": "warmstart_microwiki"}
    line = [sys.executable, "-c", LOADING, *(word.format(**names) for word in words)]
    done = subprocess.run(
        line, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    said = (done.stdout + done.stderr).splitlines()
    assert said[0] == f"loading {what.format(**names)} …", done.stderr


def test_an_error_that_nobody_foresaw_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("at2po_agent.training.stored_trees.find_tree", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main(["show-tree", "anywhere"])


@pytest.mark.fault("item 29: terminal escapes from outside")
def test_wrong_usage_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.main(["plan", "--\x1b[31mred"])
    assert "\x1b" not in capsys.readouterr().err
