"""The README's promise, in short: one minute of the quick start teaches the shipped policy to search."""

import pytest
from rich.console import Console

from at2po_agent.training.config import load_config
from at2po_agent.training.display import Display
from at2po_agent.training.run_dir import RunDirectory
from at2po_agent.training.trainer import train


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_minute_of_training_raises_exact_match_on_unseen_questions(tmp_path):
    changes = ["train.max_seconds=60", "eval.questions=300", "log.trees_every=0", f"run_dir={tmp_path / 'run'}"]
    config = load_config("quickstart", changes)
    with RunDirectory.create(config) as run, Display(config.train.steps, console=Console(quiet=True)) as display:
        result = train(config, run=run, display=display)
    before, after = (scores.mean for scores in (result.before, result.after))
    assert 0.10 <= before <= 0.40
    assert after > before + 0.10
