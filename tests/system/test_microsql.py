"""The database agent in short: eight steps of training correct columns that the shipped policy was taught wrongly."""

from pathlib import Path

import pytest
from rich.console import Console

from at2po_agent.training.config import load_config
from at2po_agent.training.display import Display
from at2po_agent.training.run_dir import RunDirectory
from at2po_agent.training.trainer import train
from tests.helpers.places import CONFIGS


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_eight_steps_answer_more_questions_about_databases_that_were_not_trained_on(tmp_path: Path) -> None:
    changes = ["train.steps=8", "eval.questions=200", "log.trees_every=0", f"run_dir={tmp_path / 'run'}"]
    config = load_config(CONFIGS / "microsql.yaml", changes)
    with RunDirectory.create(config) as run, Display(config.train.steps, console=Console(quiet=True)) as display:
        result = train(config, run=run, display=display)
    before, after = (scores.mean for scores in (result.before, result.after))
    assert 0.10 <= before <= 0.40
    assert after > before + 0.10
