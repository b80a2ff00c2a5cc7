from __future__ import annotations

import sys
from pathlib import Path

import pytest

from at2po_agent.environments import import_tasks
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import Spent, TrainConfig, TrainLimits


def test_the_defaults_are_the_papers():
    config = TrainConfig()
    assert (config.rollout.questions, config.update.mini_batch, config.train.steps) == (64, 8, 240)
    assert (config.update.lr, config.update.weight_decay, config.update.grad_clip) == (1e-6, 0.01, 1.0)
    assert (config.rollout.max_prompt_tokens, config.rollout.max_response_tokens) == (2000, 6192)
    assert (config.rollout.temperature, config.update.schedule) == (1.0, "constant")


def test_training_ends_at_the_first_limit_that_is_reached():
    limits = TrainLimits(steps=10, max_tokens=100, max_calls=7, max_cpu_seconds=2.5)
    assert limits.reached(Spent(9, 1e9, 2.4, 99, 6)) is None
    assert limits.reached(Spent(tokens=100)) == "tokens" and limits.reached(Spent(calls=8)) == "calls"
    assert limits.reached(Spent(cpu_seconds=2.5)) == "cpu_seconds"
    assert TrainLimits(max_seconds=3).reached(Spent(seconds=3.1)) == "seconds"
    assert limits.reached(Spent(steps=10)) == "steps" and limits.reached(Spent(steps=10, tokens=100)) == "tokens"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_tasks_beside_the_user_are_found(folder: Path):
    (folder / "own_task_for_test.py").write_text("LOADED = True")
    import_tasks(["own_task_for_test"])
    assert sys.modules.pop("own_task_for_test").LOADED


def test_a_missing_task_is_named(folder: Path):
    with pytest.raises(ConfigError, match=r"env.imports: there is no module 'nowhere.tasks'"):
        import_tasks(["nowhere.tasks"])


def test_what_a_task_itself_misses_keeps_its_error(folder: Path):
    (folder / "needs_more_for_test.py").write_text("import a_package_that_is_missing")
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_missing"):
        import_tasks(["needs_more_for_test"])
