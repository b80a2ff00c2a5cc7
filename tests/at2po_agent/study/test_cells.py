"""The runs of a study: their states, what is refused, and a study that is stopped and goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from at2po_agent.settings import ConfigError, to_yaml
from at2po_agent.study.cells import CellState, check_cells, compare_cells, jobs, last_line, states_of
from at2po_agent.study.config import Cell, Study, load_study
from at2po_agent.training.run_dir import RunDirError
from tests.helpers.places import CONFIGS, ROOT
from tests.helpers.trained_runs import write_run

QUICKSTART = CONFIGS / "runs" / "quickstart.yaml"


def cell(path: Path) -> Cell:
    return Cell("a", 1, path, QUICKSTART, ())


def test_the_state_of_a_run_is_in_its_directory(tmp_path):
    assert CellState.of(cell(tmp_path / "none")).state == "new"
    assert CellState.of(cell(write_run(tmp_path / "done", [[0], [1]]))).state == "finished"
    cut = CellState.of(cell(write_run(tmp_path / "cut", [[0], [1]], steps=5)))
    assert (cut.state, cut.why) == ("unfinished", "stopped after step 1")
    (tmp_path / "done" / "evaluations" / "step_000001.json").unlink()
    assert CellState.of(cell(tmp_path / "done")).why == "not evaluated at its end"


def study(tmp_path: Path, *overrides: str) -> Study:
    file = tmp_path / "study.yaml"
    file.write_text(
        f"config: {QUICKSTART}\nbudget: {{steps: 2}}\nseeds: [1]\nout: {tmp_path / 'out'}\n"
        "variants: {grpo: [algorithm.name=grpo, 'algorithm.expansion={n: 4}'], at2po: []}\n"
        "overrides: [rollout.questions=2, update.mini_batch=2, eval.questions=4, log.trees_every=1]\n"
    )
    return load_study(file, overrides)


def test_jobs_follow_from_cores_and_threads(tmp_path):
    assert jobs(study(tmp_path, "jobs=3")) == 3
    assert jobs(study(tmp_path, "threads=1000")) == 1


def test_changed_settings_are_refused_by_name(tmp_path):
    made = study(tmp_path)
    folder = made.cells[0].path
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(made.cells[0].training()))
    check_cells(study(tmp_path, "seeds=[1,2]", "jobs=7"))
    with pytest.raises(
        RunDirError, match=r"grpo-seed1 was made with other settings .*: train.steps: 2 → 3\. Restore them"
    ):
        check_cells(study(tmp_path, "budget.steps=3"))


def test_unfinished_runs_are_named_in_the_comparison(tmp_path):
    made = study(tmp_path)
    write_run(made.cells[0].path, [[0], [1]])
    states = {"grpo-seed1": CellState("finished"), "at2po-seed1": CellState("failed", "out of memory")}
    found = compare_cells(made, states)
    assert found is not None
    assert found.failed == {"at2po-seed1": "failed: out of memory"}
    assert compare_cells(made, dict.fromkeys(states, CellState("new"))) is None


def test_a_stopped_run_is_named_with_what_it_said_last(tmp_path):
    made = study(tmp_path)
    write_run(made.cells[0].path, [[0], [1]])
    (made.out / "logs").mkdir()
    (made.out / "logs" / "at2po-seed1.log").write_text("step 1\nout of memory\n")
    states = {"grpo-seed1": CellState("finished"), "at2po-seed1": CellState("unfinished", "stopped after step 1")}
    found = compare_cells(made, states)
    assert found is not None
    assert found.failed == {"at2po-seed1": "unfinished: stopped after step 1: out of memory"}


@pytest.mark.parametrize("setting", ["eval.questions=0", "eval.at_end=false"])
def test_a_study_that_evaluates_nothing_is_refused_before_it_trains(tmp_path, setting):
    with pytest.raises(ConfigError, match=f"variant grpo has {setting}: a study compares runs by the evaluation"):
        check_cells(study(tmp_path, f"overrides=[rollout.questions=2,update.mini_batch=2,{setting}]"))


def test_the_states_of_all_runs_where_one_cannot_be_read(tmp_path):
    made = study(tmp_path)
    write_run(made.cells[0].path, [[0], [1]])
    (made.cells[0].path / "evaluations" / "step_000001.json").write_text("{")
    states = states_of(made)
    assert {name: state.state for name, state in states.items()} == {"grpo-seed1": "failed", "at2po-seed1": "new"}
    assert "step_000001.json" in states["grpo-seed1"].why


def test_the_last_line_of_a_log(tmp_path):
    assert last_line(tmp_path / "none") == ""
    (tmp_path / "log").write_text("one\ntwo: error\n\n")
    assert last_line(tmp_path / "log") == "two: error"


def run_study(tmp_path: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "at2po_agent", "study", "--cfg", str(tmp_path / "study.yaml")]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)


@pytest.mark.slow  # four processes that train
def test_a_killed_study_goes_on_and_writes_its_page(tmp_path):
    made = study(tmp_path)
    first = run_study(tmp_path)
    metrics = made.cells[0].path / "metrics.jsonl"
    for _ in range(600):
        if metrics.exists() or first.poll() is not None:
            break
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert not (made.out / "page.md").exists()
    second = run_study(tmp_path)
    said, _ = second.communicate()
    assert second.returncode == 0, said
    assert re.search(r"grpo-seed1: (resumed|finished)", said) or "1 finished" in said
    page = (made.out / "page.md").read_text()
    assert "| grpo | 1 |" in page and "| at2po | 1 |" in page and (made.out / "page.html").exists()
    assert {CellState.of(cell).state for cell in made.cells} == {"finished"}
