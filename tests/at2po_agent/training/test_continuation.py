"""A run goes on only as the run that it was: what changed since is refused, or accepted by name and kept."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from at2po_agent.commands.main import main
from tests.helpers.own_task import ID, IMPORT, KEEPERS, build_index, write_questions


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task and a run of two steps on it."""
    folder = tmp_path_factory.mktemp("task")
    write_questions(folder, KEEPERS)
    build_index(folder, KEEPERS)
    settings = ["policy.path=builtin:microwiki", f"env.id={ID}", "rollout={questions: 2, max_turn_tokens: 8}"]
    settings += ["env.kwargs={folder: ., max_searches: 1}", "algorithm={name: grpo, expansion: {n: 2}}"]
    limits = ["train.steps=2", "eval.questions=2", "checkpoint={every: 1, keep: 2}", "run_dir=run", IMPORT]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *settings, *limits]) == 0
    return folder


@pytest.fixture
def task(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the working directory."""
    shutil.copytree(trained, tmp_path / "task")
    monkeypatch.chdir(tmp_path / "task")
    return tmp_path / "task"


def go_on(*words: str) -> int:
    return main(["train", "--resume", "run", "train.steps=3", *words])


def sessions() -> list[dict[str, Any]]:
    return json.loads(Path("run/manifest.json").read_text())["sessions"]


def edit_config(old: str, new: str) -> None:
    file = Path("run/config.yaml")
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_a_run_of_which_nothing_changed_says_nothing(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert go_on("eval.kwargs={max_searches: 0}", "eval.questions=1", "checkpoint.keep=1") == 0
    out = capsys.readouterr().out
    assert "change" not in out and "the code has changed" not in out and "has no" not in out
    assert [session["from_step"] for session in sessions()] == [0, 2]


def answers_edited(task: Path) -> str:
    write_questions(task, dict.fromkeys(KEEPERS, "yes"))
    return r"data \(env.dataset.digest: .{16}… → .{16}…, eval_env.dataset.digest: .*\)"


def index_rebuilt(task: Path) -> str:
    build_index(task, {"Elsewhere": "nobody"})
    return r"index \(env.search.corpus_digest: .{16}… → .{16}…, env.search.passages: 4 → 1, .*\)"


def configuration_edited(task: Path) -> str:
    edit_config("lr: 1.0e-06", "lr: 0.01")
    edit_config("max_searches: 1", "max_searches: 2")
    edit_config("temperature: 1.0", "temperature: 0.5")
    edit_config("seed: 0", "seed: 1")
    changed = "seed: 0 → 1, env.kwargs.max_searches: 1 → 2, rollout.temperature: 1.0 → 0.5, update.lr: 1e-06 → 0.01"
    return rf"config \({changed}\)"


CHANGES = {"data": answers_edited, "index": index_rebuilt, "config": configuration_edited}


@pytest.mark.fault("R1: a run resumed with other data, another index or another configuration")
@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_is_refused_by_name_and_accepted_for_good(
    kind: str, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = Path("run/metrics.jsonl").read_bytes()
    named = CHANGES[kind](task)
    others = ",".join({"data", "index", "config"} - {kind})
    assert go_on() == go_on("--accept-change", others) == 2
    err = capsys.readouterr().err
    assert len(re.findall(f"run cannot be resumed, because what it trains on has changed: {named}", err)) == 2
    assert err.endswith(f"--accept-change {kind}\n")
    assert Path("run/metrics.jsonl").read_bytes() == metrics and len(sessions()) == 1

    assert go_on("--accept-change", kind) == 0
    assert f"continuing with an accepted change of {kind}: " in capsys.readouterr().out
    accepted = sessions()[-1]["accepted"]
    assert accepted and all(text.startswith(f"{kind}: ") for text in accepted)

    assert main(["train", "--resume", "run", "train.steps=4"]) == 0
    out = capsys.readouterr().out
    assert out.count("continuing with an accepted change of ") == len(accepted)
    assert out.count("\nwith an accepted change of ") == len(accepted)  # below the table of before and after
    assert sessions()[-1]["accepted"] == accepted


def test_all_that_changed_is_said_at_once_and_accepted_at_once(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for change in CHANGES.values():
        change(task)
    assert go_on() == 2
    assert capsys.readouterr().err.endswith("--accept-change data,index,config\n")
    assert go_on("--accept-change", "data,index,config") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume", "run", "--accept-change", "weights"], "no change of 'weights' to accept"),
        (["--accept-change", "data", "env.id=X"], "--accept-change needs --resume RUN"),
    ],
)
def test_what_cannot_be_accepted(
    words: list[str], message: str, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words]) == 2
    assert message in capsys.readouterr().err


def change_session(**changes: Any) -> None:
    """Lay ``changes`` over what the run says of its only session; None removes an entry."""
    session = sessions()[0] | changes
    kept = {key: value for key, value in session.items() if value is not None}
    Path("run/manifest.json").write_text(json.dumps({"sessions": [kept]}))


def test_other_code_is_a_line(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packages = sessions()[0]["packages"] | {"numpy": "0.1"}
    change_session(packages=packages, git={"commit": "0" * 40, "clean": True})
    assert go_on() == 0
    out = capsys.readouterr().out
    assert "the code has changed since the run was last started: packages.numpy: 0.1 → " in out and "git.commit" in out


def test_a_run_of_a_version_that_kept_no_configuration_goes_on(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_session(config=None, from_step=None)
    edit_config("lr: 1.0e-06", "lr: 0.01")
    write_questions(task, dict.fromkeys(KEEPERS, "yes"))
    assert go_on() == 2
    assert capsys.readouterr().err.endswith("--accept-change data\n")
    write_questions(task, KEEPERS)
    assert go_on() == 0


def test_a_setting_that_a_version_did_not_have_is_no_change(task: Path) -> None:
    config = sessions()[0]["config"]
    del config["update"]["precision"], config["lora"]
    change_session(config=config)
    assert go_on() == 0


@pytest.mark.fault("R7: other folders beside the checkpoints")
def test_other_folders_beside_the_checkpoints_are_ignored(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints, copies = (
        Path("run/checkpoints"),
        {"step_000002.bak", "step_latest", "step_000009_old", "step_2 (copy)"},
    )
    for name in copies:
        shutil.copytree(checkpoints / "step_000002", checkpoints / name)
    assert go_on() == 0
    assert "continuing from step 2" in capsys.readouterr().out
    assert {path.name for path in checkpoints.iterdir()} == copies | {"step_000002", "step_000003"}
    assert main(["export", "run", "exported"]) == 0
    assert main(["show-tree", "run"]) == 0
    assert main(["view", "run", "--html", "run.html"]) == 0


@pytest.mark.fault("item 22: a run resumed without its metrics or trees")
def test_files_that_the_run_wrote_and_that_are_missing_are_named(
    task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run/metrics.jsonl").unlink()
    Path("run/trees/step_000002.jsonl.zst").unlink()
    assert go_on("log.trees_every=0") == 0
    out = capsys.readouterr().out
    assert "run/metrics.jsonl has no metrics of step 1 to 2, which the run has trained" in out
    assert "run/trees has no trees of step 2, which the run has stored" in out
    assert main(["train", "--resume", "run", "train.steps=4"]) == 0
    # The trees of step 3 were never stored.
    assert "run/trees has no trees of step 2, which" in capsys.readouterr().out
