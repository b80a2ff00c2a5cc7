"""The tasks that ship beside search, in short: a few steps of training gain what their policies were not taught."""

from pathlib import Path

import pytest
from rich.console import Console

from at2po_agent.training.config import load_config
from at2po_agent.training.display import Display
from at2po_agent.training.run_dir import RunDirectory
from at2po_agent.training.trainer import train


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("config", "steps"), [("maze", 6), ("microsql", 8)])
def test_a_few_steps_gain_on_tasks_that_were_not_trained_on(config: str, steps: int, tmp_path: Path) -> None:
    changes = [f"train.steps={steps}", "eval.questions=200", "log.trees_every=0", f"run_dir={tmp_path / 'run'}"]
    settings = load_config(config, changes)
    with RunDirectory.create(settings) as run, Display(steps, console=Console(quiet=True)) as display:
        result = train(settings, run=run, display=display)
    assert result.before is not None and result.after is not None
    before, after = result.before.mean, result.after.mean
    assert 0.10 <= before <= 0.40
    assert after > before + 0.10
