from __future__ import annotations

import pytest

from at2po_agent.study.runs import TrainedRun, is_training
from at2po_agent.training.config import Spent
from at2po_agent.training.run_dir import RunDirectory, RunDirError
from tests.helpers.trained_runs import write_run


def test_evaluations_and_what_was_spent_before_each(tmp_path):
    run = TrainedRun.read(write_run(tmp_path / "run", [[0, 1], [1, 1], [1, 1]], seed=7))
    assert (run.seed, run.algorithm) == (7, "at2po")
    assert [scores.values for scores in run.evaluations] == [(0, 1), (1, 1), (1, 1)]
    assert [run.cost(scores, "tokens") for scores in run.evaluations] == [0, 100, 200]
    assert run.total == Spent(steps=2, seconds=4.0, cpu_seconds=6.0, tokens=200, calls=20)
    assert run.unknown == frozenset()


def test_what_an_earlier_version_did_not_record_is_known_to_be_unknown(tmp_path):
    path = write_run(tmp_path / "run", [[0, 1]])
    with RunDirectory.resume(path) as run:
        run.log(1, {"generated_tokens": 5}, {"step": 1.0})
    read = TrainedRun.read(path)
    assert read.unknown == {"calls", "cpu_seconds"} and read.total.tokens == 5


def test_another_folder_is_no_training_run(tmp_path):
    assert not is_training(tmp_path)
    with pytest.raises(RunDirError, match="not the directory of a training run"):
        TrainedRun.read(tmp_path)


def test_an_evaluation_without_its_metrics_is_refused_when_it_is_needed(tmp_path):
    path = write_run(tmp_path / "run", [[0, 1], [1, 1]])
    (path / "metrics.jsonl").write_text("")
    run = TrainedRun.read(path)
    with pytest.raises(RunDirError, match="evaluation after step 1 and metrics of fewer steps"):
        run.cost(run.evaluations[-1], "tokens")
