"""What a trainer tells reaches the run directory, the display and the loggers, in the first process alone."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from at2po_agent.environments import EnvConfig
from at2po_agent.training.config import LogConfig, PolicyConfig, TrainConfig
from at2po_agent.training.display import Display
from at2po_agent.training.metrics import Scores
from at2po_agent.training.recorder import Recorder, RunRecorder
from at2po_agent.training.run_dir import RunDirectory, read_trees, tree_files
from tests.helpers.stored_trees import grown, record
from tests.helpers.wandb_double import WandbDouble

SCORES = Scores(2, ("a", "b"), (1.0, 0.0), ("", ""), {"f1": 0.5})


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> WandbDouble:
    """What the logger of the configuration was told."""
    double = WandbDouble()
    monkeypatch.setitem(sys.modules, "wandb", double)
    return double


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    config = TrainConfig(
        run_dir=str(tmp_path / "run"),
        env=EnvConfig(id="X-v0"),
        policy=PolicyConfig(path="p"),
        log=LogConfig(wandb_project="search", trees_every=2),
    )
    with RunDirectory.create(config) as run:
        yield run


def recorder_of(run: RunDirectory) -> tuple[RunRecorder, io.StringIO]:
    out = io.StringIO()
    return RunRecorder(run, Display(4, console=Console(file=out, width=200))), out


def tell(recorder: Recorder) -> None:
    """Two steps and an evaluation, as a trainer has them."""
    recorder.check({"torch": "1"})
    recorder.session({"torch": "1"}, 0)
    recorder.begin(-1)
    for step in (1, 2):
        recorder.trees(step, lambda step=step: [record(grown(), question=f"At {step}?")])
        recorder.step(step, {"em": step / 4, "kl": None}, {"rollout": 2.0}, seconds=step, tokens=10)
    recorder.evaluating(2)
    recorder.evaluated()
    recorder.evaluation(SCORES, 3.0)


def test_everything_is_in_the_directory_on_the_screen_and_with_the_loggers(
    run: RunDirectory, logged: WandbDouble
) -> None:
    recorder, out = recorder_of(run)
    tell(recorder)
    recorder.close()
    assert recorder.path == run.path
    assert [(line["step"], line.get("em"), line.get("eval_em")) for line in run.metrics()] == [
        (1, 0.25, None),
        (2, 0.5, None),
        (2, None, 0.5),
    ]
    assert run.metrics()[0]["kl"] is None and run.metrics()[0]["time"] == {"rollout": 2.0}
    evaluation = {"eval_em": 0.5, "eval_questions": 2, "eval_f1": 0.5}
    assert run.metrics()[2].items() >= evaluation.items()
    [wandb] = logged.runs.values()
    example, first_step, second_step, last = wandb.rows
    assert first_step == {"rollout/em": 0.25, "time/rollout_seconds": 2.0, "train/step": 1}
    assert second_step == {"rollout/em": 0.5, "time/rollout_seconds": 2.0, "train/step": 2}
    assert last == {"eval/em": 0.5, "eval/questions": 2, "eval/f1": 0.5, "time/eval_seconds": 3.0, "train/step": 2}
    assert wandb.finished == 1
    assert set(example) == {"examples/tree", "examples/best_path", "examples/worst_path", "train/step"}
    assert "At 1?" in example["examples/tree"].page
    stored = [[tree["question"] for tree in read_trees(file)] for file in tree_files(run.path)]
    assert stored == [["At 1?"], ["At 2?"]]
    first, second, phase, line = out.getvalue().splitlines()
    assert first.startswith("step 1/4  EM 25.0%") and second.startswith("step 2/4  EM 50.0%")
    assert phase == "evaluation …" and line.startswith("evaluation after step 2: EM 50.0%")
    assert recorder.is_evaluated(2) and not recorder.is_evaluated(1)


def test_a_run_that_goes_on_forgets_what_came_after_its_checkpoint(run: RunDirectory, logged: WandbDouble) -> None:
    tell(recorder_of(run)[0])
    run.close()
    with RunDirectory.resume(run.path) as again:
        recorder, _ = recorder_of(again)
        recorder.begin(1)
        assert [line["step"] for line in again.metrics()] == [1]
        assert not recorder.is_evaluated(2)


def shown(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value.page if name.startswith("examples/") else value for name, value in line.items()}


@pytest.mark.fault("item 20: nothing is lost or doubled when a run is resumed")
def test_loggers_have_every_line_once_after_a_kill(run: RunDirectory, logged: WandbDouble) -> None:
    # A tree of every step is stored, so that also examples can be shown again.
    run.config = replace(run.config, log=replace(run.config.log, trees_every=1, tensorboard=True))
    recorder, _ = recorder_of(run)
    tell(recorder)
    recorder.close()
    run.close()
    [wandb] = logged.runs.values()
    told = [shown(line) for line in wandb.rows]
    # Nothing of it had arrived.
    wandb.lose(4)
    with RunDirectory.resume(run.path, ["log.trees_every=1", "log.tensorboard=true"]) as again:
        recorder, _ = recorder_of(again)
        recorder.begin(2)
        assert [shown(line) for line in wandb.rows] == told
        # As a run has that is resumed at its end.
        recorder.evaluation(SCORES, 4.0)
        recorder.close()
    assert [shown(line) for line in wandb.rows] == told and wandb.dropped == 0 and len(logged.runs) == 1


def test_an_evaluation_that_was_left_is_said(run: RunDirectory, logged: WandbDouble) -> None:
    recorder, out = recorder_of(run)
    recorder.evaluating(2)
    recorder.left(3)
    assert "the evaluation after step 3 was interrupted; it is repeated when the run is resumed" in out.getvalue()
    assert run.metrics() == []


def test_any_other_process_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder(tmp_path)
    tell(recorder)
    recorder.note("a line")
    recorder.left(3)
    recorder.close()
    assert not recorder.is_evaluated(2)
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out == ""


@pytest.mark.parametrize(("every", "stored"), [(0, []), (1, [1, 2, 3, 4, 5, 6]), (3, [1, 3, 6]), (10, [1])])
def test_the_trees_of_the_first_step_are_stored_unless_none_are(every: int, stored: list[int]) -> None:
    assert [step for step in range(1, 7) if LogConfig(trees_every=every).stores_trees(step)] == stored
