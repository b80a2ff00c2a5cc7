from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from at2po_agent.environments import EnvConfig
from at2po_agent.policy.loading import PolicyConfig
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import LogConfig, TrainConfig
from at2po_agent.training.loggers import open_loggers, scalars
from tests.helpers.wandb_double import WandbDouble


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


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> WandbDouble:
    double = WandbDouble()
    monkeypatch.setitem(sys.modules, "wandb", double)
    return double


@pytest.mark.fault("item 20: scalars named by what they are, and one W&B run for a resumed run")
def test_wandb_gets_the_configuration_and_every_step(tmp_path: Path, wandb: WandbDouble):
    [logger] = open_loggers(config(wandb_project="search"), tmp_path, 1)
    logger.log(3, {"eval/em": 0.5})
    logger.close()
    [settings] = wandb.inits
    assert (settings["project"], settings["dir"]) == ("search", str(tmp_path))
    assert settings["config"]["update"]["lr"] == 1e-6
    [run] = wandb.runs.values()
    assert (run.rows, run.finished) == ([{"eval/em": 0.5, "train/step": 3}], 1)
    assert run.step_metrics == {"*": "train/step"}


@pytest.mark.fault("item 20: scalars named by what they are, and one W&B run for a resumed run")
def test_a_resumed_run_goes_on_in_the_same_wandb_run(tmp_path: Path, wandb: WandbDouble):
    for first, last in ((1, 4), (3, 5)):  # the second session goes on after step 2
        [logger] = open_loggers(config(wandb_project="search"), tmp_path, first)
        for step in range(first, last):
            logger.log(step, {"rollout/em": step / 10})
        logger.close()
    [run] = wandb.runs.values()
    assert [row["train/step"] for row in run.rows] == [1, 2, 3, 3, 4]
    open_loggers(config(wandb_project="another"), tmp_path, 5)
    assert len(wandb.runs) == 2
    other = tmp_path / "other"
    other.mkdir()
    open_loggers(config(wandb_project="search"), other, 1)
    assert len(wandb.runs) == 3


@pytest.mark.parametrize("stored", ["{", "[]", "{}"])
def test_a_damaged_id_is_one_line(tmp_path: Path, wandb: WandbDouble, stored: str):
    (tmp_path / "wandb.json").write_text(stored)
    with pytest.raises(ConfigError, match=r"wandb\.json cannot be read .* take it away"):
        open_loggers(config(wandb_project="search"), tmp_path, 1)


@pytest.mark.fault("item 20: scalars named by what they are, and one W&B run for a resumed run")
def test_scalars_are_named_by_what_they_are():
    metrics = {"entropy": 1.0, "em": None, "prefilled_tokens": 7, "update_loss": 0.1, "update_ratio_max": 2.0}
    timings = {"step": 3.0, "rollout": 2.0, "update": 1.0, "tokens_per_second": 9.0}
    assert scalars(metrics, timings) == {
        "rollout/entropy": 1.0,
        "engine/prefilled_tokens": 7,
        "update/loss": 0.1,
        "update/ratio_max": 2.0,
        "time/step_seconds": 3.0,
        "time/rollout_seconds": 2.0,
        "time/update_seconds": 1.0,
        "time/tokens_per_second": 9.0,
    }
    assert scalars({"eval_em": 0.5}, {"eval": 4.0}) == {"eval/em": 0.5, "time/eval_seconds": 4.0}


HOSTILE = "```\n</pre><script>alert(1)</script> <b>x</b>"


@pytest.mark.fault("item 20: one tree and some transcripts are logged")
def test_texts_are_shown_and_cannot_be_markup(tmp_path: Path, wandb: WandbDouble):
    loggers = open_loggers(config(wandb_project="search", tensorboard=True), tmp_path, 1)
    for logger in loggers:
        logger.show(2, {"examples/tree": HOSTILE})
        logger.close()
    [run] = wandb.runs.values()
    [row] = run.rows
    assert row["train/step"] == 2
    assert row["examples/tree"].page == (
        "<pre>```\n&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt; &lt;b&gt;x&lt;/b&gt;</pre>"
    )
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    [event] = events.Tensors("examples/tree/text_summary")
    [text] = event.tensor_proto.string_val
    assert event.step == 2 and text.decode() == textwrap.indent(HOSTILE, "    ")  # a block of code in Markdown


@pytest.mark.parametrize(
    ("log", "package"), [({"wandb_project": "p"}, "wandb"), ({"tensorboard": True}, "tensorboard")]
)
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: dict[str, Any], package: str):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"needs the package {package}: pip install 'at2po\[{package}\]'"):
        open_loggers(config(**log), tmp_path, 1)
