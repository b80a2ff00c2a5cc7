from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from at2po_agent.environments import EnvConfig
from at2po_agent.policy.loading import PolicyConfig
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import LogConfig, TrainConfig
from at2po_agent.training.loggers import open_loggers


def config(**log: Any) -> TrainConfig:
    return TrainConfig(env=EnvConfig(id="X-v0"), policy=PolicyConfig(path="p"), log=LogConfig(**log))


def test_nothing_is_opened_unasked(tmp_path: Path):
    assert open_loggers(config(), tmp_path, 1) == []
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_shows_every_step_once_after_a_resume(tmp_path: Path):
    for first, last, em in ((1, 4, 0.25), (3, 5, 0.5)):  # the second session goes on after step 2
        [logger] = open_loggers(config(tensorboard=True), tmp_path, first)
        for step in range(first, last):
            logger.log(step, {"em": em, "reward": -1.0})
        logger.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("em")] == [(1, 0.25), (2, 0.25), (3, 0.5), (4, 0.5)]
    assert {event.value for event in events.Scalars("reward")} == {-1.0}


def test_wandb_gets_the_configuration_and_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[Any] = []
    run = SimpleNamespace(log=lambda data, step: calls.append((step, data)), finish=lambda: calls.append("finish"))
    fake = SimpleNamespace(init=lambda **settings: calls.append(settings) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    [logger] = open_loggers(config(wandb_project="search"), tmp_path, 1)
    logger.log(3, {"em": 0.5})
    logger.close()
    settings, *rest = calls
    assert (settings["project"], settings["dir"]) == ("search", str(tmp_path))
    assert settings["config"]["update"]["lr"] == 1e-6
    assert rest == [(3, {"em": 0.5}), "finish"]


@pytest.mark.parametrize(
    ("log", "package"), [({"wandb_project": "p"}, "wandb"), ({"tensorboard": True}, "tensorboard")]
)
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: dict[str, Any], package: str):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"needs the package {package}: pip install 'at2po\[{package}\]'"):
        open_loggers(config(**log), tmp_path, 1)
