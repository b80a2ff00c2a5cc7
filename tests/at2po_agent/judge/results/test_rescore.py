"""Scoring again gives what scoring at once gives, keeps what has no score, and says what changed."""

import dataclasses
import json

import pytest

from at2po_agent.commands.main import main
from at2po_agent.judge.results.metrics import Summary
from at2po_agent.judge.results.rescore import rescore
from at2po_agent.judge.results.stored import Finished
from at2po_agent.training.run_dir import RunDirError, take_lock
from at2po_env.scoring import METRICS
from tests.helpers.evaluations import answered, failed, malformed, write_run


def test_wrong_scores_become_right_ones(tmp_path):
    stored = [
        dataclasses.replace(answered("q1", "The Walem!"), em=0.0, f1=0.0, contains=0.0),
        dataclasses.replace(answered("q2", "Walem town"), em=1.0, answers=("Rom", "Walem")),
        answered("q3", "Rom"),
        malformed("q4"),
        failed("q5"),
    ]
    run = write_run(tmp_path / "run", stored, metrics="old/1")
    found = rescore(run)
    assert found.changed == 2
    again = Finished.read(run)
    scores = [(episode.em, episode.f1, episode.contains) for episode in again.episodes]
    assert scores == [(1, 1, 1), (0, pytest.approx(2 / 3), 1), (0, 0, 0), (0, 0, 0), (None, None, None)]
    assert again.manifest["metrics"] == METRICS
    assert (found.before.means["em"].mean, found.after.means["em"].mean) == (0.25, 0.25)
    assert Summary.from_json(json.loads((run / "summary.json").read_text())) == found.after == again.summary


def test_what_is_right_is_not_written_again(tmp_path):
    run = write_run(tmp_path / "run", [answered("q1"), failed("q2")])
    before = (run / "episodes.jsonl").stat()
    assert rescore(run).changed == 0
    assert (run / "episodes.jsonl").stat().st_mtime_ns == before.st_mtime_ns


def test_a_question_without_an_answer_is_named_and_nothing_is_written(tmp_path):
    run = write_run(tmp_path / "run", [dataclasses.replace(answered("q1"), answers=())])
    with pytest.raises(RunDirError, match="question 'q1' is stored without an answer"):
        rescore(run)
    assert not (run / "summary.json").exists()


def test_a_running_evaluation_is_left_alone(tmp_path):
    run = write_run(tmp_path / "run", [answered("q1")])
    with take_lock(run), pytest.raises(RunDirError, match="in use by another process"):
        rescore(run)
    assert not (run / "summary.json").exists()


def test_the_command_prints_old_and_new(tmp_path, capsys):
    run = write_run(tmp_path / "run", [dataclasses.replace(answered("q1"), em=0.0), answered("q2")])
    assert main(["rescore", str(run)]) == 0
    out = capsys.readouterr().out
    (row,) = [line.split("│")[1:-1] for line in out.splitlines() if "│ em" in line]
    assert [cell.strip() for cell in row] == ["em", "50.0%", "100.0%", "[15.8%, 100.0%]"]
    assert "1 of 2 episodes has another score" in out


def test_what_is_no_evaluation(tmp_path, capsys):
    assert main(["rescore", str(tmp_path)]) == 2
    assert "not the directory of an evaluation" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
