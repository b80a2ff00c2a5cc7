"""The README's promise, in short: half of the quick start's steps teach the shipped policy to search."""

import subprocess
import sys
from pathlib import Path

import pytest

from at2po_agent.training.run_dir import read_metrics


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_few_steps_of_training_raise_exact_match_on_unseen_questions(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train.max_seconds=null", "train.steps=9", "eval.questions=300", "log.trees_every=0", f"run_dir={run}"]
    line = [sys.executable, "-m", "at2po_agent", "train", "--cfg", "quickstart", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stdout
    before, after = (line["eval_em"] for line in read_metrics(run) if "eval_em" in line)
    assert 0.10 <= before <= 0.40
    assert after > before + 0.10
