from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from at2po_agent.atomic_files import DiskError
from at2po_agent.environments import EnvConfig
from at2po_agent.method.tree import TurnNode, TurnTree
from at2po_agent.policy.loading import PolicyConfig
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import TrainConfig, load_config
from at2po_agent.training.metrics import Scores
from at2po_agent.training.run_dir import (
    RunDirectory,
    RunDirError,
    evaluation_files,
    read_metrics,
    read_trees,
    step_of,
    tree_files,
)
from at2po_agent.training.stored_trees import tree_record
from tests.helpers.faults import disk_with_room_for


def config(path: Path | None) -> TrainConfig:
    return TrainConfig(run_dir=str(path) if path else None, env=EnvConfig(id="X-v0"), policy=PolicyConfig(path="p"))


@pytest.fixture
def run(tmp_path: Path):
    with RunDirectory.create(config(tmp_path / "run")) as run:
        yield run


def scores(step: int, *em: float) -> Scores:
    return Scores(step, tuple(f"q{i}" for i in range(len(em))), em, ("",) * len(em), {"f1": 0.5})


def test_the_written_configuration_is_the_one_that_ran(run: RunDirectory):
    assert load_config(run.path / "config.yaml") == run.config
    assert not run.resumed


def test_default_directories_never_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with RunDirectory.create(config(None)) as first, RunDirectory.create(config(None)) as second:
        assert first.path != second.path
        assert {first.path.parent, second.path.parent} == {Path("runs")}


def test_an_existing_run_is_never_overwritten(run: RunDirectory):
    run.log(1, {"em": 0.5})
    run.close()
    with pytest.raises(RunDirError, match="--resume"):
        RunDirectory.create(run.config)
    assert len(run.metrics()) == 1


@pytest.mark.parametrize("began", [False, True])
def test_a_run_that_could_not_begin_leaves_nothing(tmp_path: Path, began: bool):
    with pytest.raises(RuntimeError), RunDirectory.create(config(tmp_path / "run")) as run:
        if began:
            run.add_session({})
        raise RuntimeError("no such policy")
    assert (tmp_path / "run").exists() == began


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=r"cannot write .*file/run: Not a directory"):
        RunDirectory.create(config(tmp_path / "file" / "run"))


def test_only_one_process_holds_a_run(run: RunDirectory):
    code = "from pathlib import Path; from at2po_agent.training.run_dir import RunDirectory; "
    code += f"RunDirectory.resume(Path({str(run.path)!r}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"RunDirError: {run.path} is in use by another process" in other.stderr.splitlines()[-1].partition(".")[2]
    run.close()
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_metrics_are_on_the_disk_at_once_and_plain_json(run: RunDirectory):
    run.log(1, {"em": np.float32(0.5), "n": np.int64(3), "loss": float("nan"), "none": None}, {"step": 0.25})
    [line] = (run.path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 1, "em": 0.5, "n": 3, "loss": None, "none": None, "time": {"step": 0.25}}
    assert list(json.loads(line)) == ["step", "em", "n", "loss", "none", "time"]


def test_resume_repairs_a_torn_line_and_rewind_makes_every_step_appear_once(run: RunDirectory):
    for step in (1, 2, 3):
        run.log(step, {"em": step / 10})
        run.save_trees(step, [{"tree": step}])
        run.log_evaluation(step, scores(step, 0.0, 1.0), 2.0)
    run.close()
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "em"')
    assert len(list(read_metrics(run.path))) == 6  # a reader does not stumble over it
    with RunDirectory.resume(run.path) as again:
        assert again.resumed
        again.rewind(1)
        again.log(2, {"em": 9})
        assert [(line["step"], line.get("em"), line.get("eval_em")) for line in again.metrics()] == [
            (1, 0.1, None),
            (1, None, 0.5),
            (2, 9, None),
        ]
    assert [path.name for path in tree_files(run.path)] == ["step_000001.jsonl.zst"]
    assert [path.name for path in (run.path / "evaluations").iterdir()] == ["step_000001.json"]


@pytest.mark.fault("R7: other folders beside the checkpoints")
def test_names_that_the_run_did_not_write_are_ignored(run: RunDirectory):
    for step in (1, 2):
        run.save_trees(step, [{"tree": step}])
        run.log_evaluation(step, scores(step, 1.0), 1.0)
    for name in ("step_000002.bak.jsonl.zst", "step_latest.jsonl.zst", "step_000002 (copy).jsonl.zst"):
        (run.path / "trees" / name).touch()
    (run.path / "trees" / "step_000004.jsonl.zst").mkdir()
    for name in ("step_latest.json", "step_000002.old.json"):
        (run.path / "evaluations" / name).touch()
    assert [step_of(path) for path in tree_files(run.path)] == [1, 2]
    assert [step_of(path) for path in evaluation_files(run.path)] == [1, 2]
    run.rewind(1)
    assert [step_of(path) for path in tree_files(run.path)] == [1]
    assert [step_of(path) for path in evaluation_files(run.path)] == [1]
    assert len(list((run.path / "trees").iterdir())) == 5


def test_rewind_to_before_the_start_forgets_everything(run: RunDirectory):
    run.log_evaluation(0, scores(0, 1.0), 1.0)
    run.rewind(-1)
    assert run.metrics() == []


def test_a_damaged_line_in_the_middle_is_named(run: RunDirectory):
    (run.path / "metrics.jsonl").write_text('{"step": 1}\nnot json\n{"step": 2}\n')
    with pytest.raises(
        RunDirError, match=r"metrics.jsonl:2: not a line of metrics: .*; restore the file, or remove this line"
    ):
        run.metrics()


def test_a_disk_that_fills_up_leaves_no_torn_line(run: RunDirectory):
    run.log(1, {"em": 0.5})
    before = sorted(path.name for path in run.path.rglob("*"))
    with disk_with_room_for(100):
        with pytest.raises(DiskError, match=f"cannot write {run.path}: File too large"):
            run.log(2, {"long": "x" * 200})
        with pytest.raises(DiskError, match=r"step_000001.jsonl.zst: File too large"):
            run.save_trees(1, [{"n": i} for i in range(1000)])
    assert (run.path / "metrics.jsonl").read_text() == '{"step": 1, "em": 0.5}\n'
    assert sorted(path.name for path in run.path.rglob("*")) == before


def test_evaluations_keep_the_score_of_every_question(run: RunDirectory):
    run.log_evaluation(20, scores(20, 1.0, 0.0, 0.0, 0.0), 3.0)
    stored = json.loads((run.path / "evaluations" / "step_000020.json").read_text())
    assert stored["ids"] == ["q0", "q1", "q2", "q3"]
    assert stored["values"] == [1, 0, 0, 0]
    assert run.metrics() == [{"step": 20, "eval_em": 0.25, "eval_questions": 4, "eval_f1": 0.5, "time": {"eval": 3.0}}]


def stored_tree() -> dict[str, Any]:
    tree = TurnTree((1,))
    tree.add(TurnNode(parent=0, group=0, depth=1, action=(2,), logp=(-1.0,), leaf=True, reward=1.0, ended="answer"))
    return tree_record(tree, question="who?", answers=["a"], advantages=[[0.5]], values=None, decode=str)


def test_trees_come_back_and_equal_trees_are_equal_bytes(run: RunDirectory):
    records = [stored_tree() | {"question": "wer‽", "n": [1, 2.5]}, stored_tree() | {"n": np.float64(1)}]
    path = run.save_trees(7, records)
    assert [(tree["question"], tree["n"]) for tree in read_trees(path)] == [("wer‽", [1, 2.5]), ("who?", 1.0)]
    first = path.read_bytes()
    assert run.save_trees(7, records).read_bytes() == first


@pytest.mark.parametrize("damage", [b"not zstd", None])
def test_damaged_trees_are_named(run: RunDirectory, damage: bytes | None):
    path = run.save_trees(7, [stored_tree()])
    path.write_bytes(path.read_bytes()[:-4] if damage is None else damage)
    with pytest.raises(RunDirError, match=r"step_000007.jsonl.zst:.* (be read|not a stored tree)"):
        read_trees(path)


@pytest.mark.fault("item 25: a stored file that unpacks to gigabytes")
def test_trees_unpack_to_no_more_than_they_may(run: RunDirectory):
    path = run.save_trees(7, [stored_tree() | {"question": "x" * 10_000}])
    assert path.stat().st_size < 1_000 and read_trees(path, most=20_000)
    with pytest.raises(RunDirError, match=r"step_000007.jsonl.zst:.*unpacks to more than 9,000 bytes"):
        read_trees(path, most=9_000)


def test_sessions_add_up(run: RunDirectory):
    assert run.sessions() == []
    run.add_session({"torch": "1"})
    run.add_session({"torch": "2"})
    assert run.sessions() == [{"torch": "1"}, {"torch": "2"}]
    assert json.loads((run.path / "manifest.json").read_text()) == {"sessions": [{"torch": "1"}, {"torch": "2"}]}


def test_a_resumed_run_may_change_how_long_and_not_what(run: RunDirectory):
    run.close()
    with RunDirectory.resume(run.path, ["train.steps=7", "log.trees_every=0"]) as longer:
        assert longer.config.train.steps == 7
    assert load_config(run.path / "config.yaml").train.steps == 7
    with pytest.raises(ConfigError, match=r"override 'update.lr=1': a resumed run may change only train, eval"):
        RunDirectory.resume(run.path, ["update.lr=1"])
    with pytest.raises(RunDirError, match="is not a run directory"):
        RunDirectory.resume(run.path / "trees")
    with pytest.raises(ConfigError, match="there is no change of 'weights' to accept: one of data, index, config"):
        RunDirectory.resume(run.path, accept=["weights"])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_was_forked_does_not_hold_the_run(run: RunDirectory):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    child.start()
    try:
        run.close()
        RunDirectory.resume(run.path).close()
    finally:
        child.kill()
        child.join()


def test_what_a_process_left_that_was_killed_before_it_began_is_taken_over(run: RunDirectory):
    run.close()
    (run.path / "config.yaml").rename(run.path / ".tmp-config.yaml")
    with RunDirectory.create(run.config) as again:
        assert load_config(again.path / "config.yaml") == run.config
        with pytest.raises(RunDirError, match="already exists"):
            RunDirectory.create(run.config)


def test_a_directory_that_another_process_is_making_is_left_alone(run: RunDirectory):
    (run.path / "config.yaml").unlink()  # as it is for a moment
    with pytest.raises(RunDirError, match="is in use by another process"):
        RunDirectory.create(run.config)
    assert (run.path / "trees").is_dir()


def test_an_evaluation_that_is_made_again_is_logged_once(run: RunDirectory):
    run.log_evaluation(2, scores(2, 0.0, 0.0), 1.0)
    run.log(2, {"em": 0.5})
    run.log_evaluation(2, scores(2, 1.0, 0.0), 2.0)
    assert [(line["step"], line.get("em"), line.get("eval_em")) for line in run.metrics()] == [
        (2, 0.5, None),
        (2, None, 0.5),
    ]
    assert run.is_evaluated(2) and not run.is_evaluated(1)
    assert json.loads((run.path / "evaluations" / "step_000002.json").read_text())["values"] == [1.0, 0.0]


@pytest.mark.parametrize("text", ['{"sessions": [', "{}", "[]", '{"sessions": [1]}'])
def test_a_damaged_manifest_is_named(run: RunDirectory, text: str):
    (run.path / "manifest.json").write_text(text)
    with pytest.raises(RunDirError, match=r"manifest.json: .*; restore or remove it"):
        run.add_session({})
    assert (run.path / "manifest.json").read_text() == text
