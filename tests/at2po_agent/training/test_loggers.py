from __future__ import annotations

import math
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as PageAccumulator

from at2po_agent.environments import EnvConfig
from at2po_agent.method.groups import Rollout
from at2po_agent.policy.loading import PolicyConfig
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import LogConfig, TrainConfig
from at2po_agent.training.loggers import GROUPS, History, Row, open_loggers, row
from at2po_agent.training.metrics import engine_metrics, rollout_metrics
from at2po_env.search_qa import SearchQAEnv
from at2po_env.tool_env import ToolEnv
from tests.helpers.wandb_double import WandbDouble
from tests.helpers.wandb_files import history


def config(**log: Any) -> TrainConfig:
    return TrainConfig(env=EnvConfig(id="X-v0"), policy=PolicyConfig(path="p"), log=LogConfig(**log))


def test_nothing_is_opened_unasked(tmp_path: Path):
    assert open_loggers(config(), tmp_path, 1) == []
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_shows_every_step_once_after_a_resume(tmp_path: Path):
    for first, last, em in ((1, 4, 0.25), (3, 5, 0.5)):  # the second session goes on after step 2
        [logger] = open_loggers(config(tensorboard=True), tmp_path, first)
        for step in range(first, last):
            logger.log(Row(step, False, {"em": em, "reward": -1.0}))
            logger.show(step, {"examples/tree": f"at {em}"})
        logger.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("em")] == [(1, 0.25), (2, 0.25), (3, 0.5), (4, 0.5)]
    assert {event.value for event in events.Scalars("reward")} == {-1.0}
    # As TensorBoard's pages read texts: the other reader never purges them.
    pages = PageAccumulator(str(tmp_path / "tensorboard"))
    pages.Reload()
    shown = [(event.step, *event.tensor_proto.string_val) for event in pages.Tensors("examples/tree/text_summary")]
    assert shown == [(1, b"    at 0.25"), (2, b"    at 0.25"), (3, b"    at 0.5"), (4, b"    at 0.5")]


def steps_of(folder: Path, name: str) -> list[int]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [event.step for event in events.Scalars(name)]


@pytest.mark.fault("item 20: nothing is lost or doubled when a run is resumed")
def test_tensorboard_gets_what_it_lacks_of_the_history(tmp_path: Path):
    evaluation = Row(2, True, {"eval/em": 0.5, "time/eval_seconds": 1.0})
    history = [Row(0, True, {"eval/em": 0.0}), *(Row(step, False, {"update/loss": 0.1}) for step in (1, 2)), evaluation]
    [logger] = open_loggers(config(tensorboard=True), tmp_path, 0)
    for of_history in history[:-1]:
        logger.log(of_history)
    # The evaluation was half written when a kill came.
    logger.log(Row(2, True, {"eval/em": 0.5}))
    logger.log(Row(3, False, {"update/loss": 0.1}))
    logger.close()
    for _ in range(2):
        [logger] = open_loggers(config(tensorboard=True), tmp_path, 3, History(tuple(history)))
        logger.close()
    assert steps_of(tmp_path, "eval/em") == [0, 2] and steps_of(tmp_path, "time/eval_seconds") == [2]
    assert steps_of(tmp_path, "update/loss") == [1, 2]
    # Switched off for a session: what lies between is written in its order.
    later = [*history, *(Row(step, False, {"update/loss": 0.1}) for step in (3, 4))]
    [logger] = open_loggers(config(tensorboard=True), tmp_path, 5, History((*history, later[-1])))
    logger.close()
    open_loggers(config(tensorboard=True), tmp_path, 5, History(tuple(later)))[0].close()
    assert steps_of(tmp_path, "update/loss") == [1, 2, 3, 4] and steps_of(tmp_path, "eval/em") == [0, 2]
    other = tmp_path / "switched on later"
    shown = History(tuple(history), lambda step: {"examples/tree": "a tree"} if step == 1 else {})
    open_loggers(config(tensorboard=True), other, 3, shown)[0].close()
    assert steps_of(other, "eval/em") == [0, 2]
    pages = PageAccumulator(str(other / "tensorboard"))
    pages.Reload()
    assert [event.step for event in pages.Tensors("examples/tree/text_summary")] == [1]


@pytest.mark.fault("item 20: nothing is lost or doubled when a run is resumed")
def test_a_run_without_a_checkpoint_begins_again_in_tensorboard(tmp_path: Path):
    for _ in range(2):
        [logger] = open_loggers(config(tensorboard=True), tmp_path, 0)
        logger.log(Row(0, True, {"eval/em": 0.5}))
        logger.close()
    assert steps_of(tmp_path, "eval/em") == [0]


@pytest.mark.fault("item 20: one W&B run for a resumed run")
@pytest.mark.slow
def test_the_package_itself_goes_on_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb")
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_SILENT", "true")):
        monkeypatch.setenv(name, value)
    rows = [Row(step, False, {"rollout/reward": step / 8}) for step in (1, 2)] + [Row(2, True, {"eval/em": 0.5})]
    run = tmp_path / "run"
    run.mkdir()
    [logger] = open_loggers(config(wandb_project="search"), run, 1)
    logger.show(1, {"examples/tree": "<b>"})
    for row_ in rows:
        logger.log(row_)
    logger.close()
    [logger] = open_loggers(config(wandb_project="search"), run, 3, History(tuple(rows)))
    logger.log(Row(3, False, {"rollout/reward": 3 / 8}))
    logger.close()
    # Offline the package knows nothing of what was sent before: both parts have the whole history, at equal places.
    first, second = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    assert first.name == second.name  # the run's id
    numbers = {4: ("0.125", "1"), 7: ("0.25", "2"), 8: ("0.5", "2")}
    for file, shown in ((first, numbers), (second, numbers | {10: ("0.375", "3")})):
        places = history(file)
        for place, (value, step) in shown.items():
            assert {value} == {places[place].get("rollout/reward", places[place].get("eval/em"))}
            assert places[place]["train/step"] == step
        assert sorted(places.keys() - {3}) == sorted(shown)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> WandbDouble:
    double = WandbDouble()
    monkeypatch.setitem(sys.modules, "wandb", double)
    return double


@pytest.mark.fault("item 20: scalars named by what they are, and one W&B run for a resumed run")
def test_wandb_gets_the_configuration_and_every_step(tmp_path: Path, wandb: WandbDouble):
    [logger] = open_loggers(config(wandb_project="search"), tmp_path, 1)
    logger.log(Row(3, True, {"eval/em": 0.5}))
    logger.close()
    [settings] = wandb.inits
    assert (settings["project"], settings["dir"]) == ("search", str(tmp_path))
    assert settings["config"]["update"]["lr"] == 1e-6
    [run] = wandb.runs.values()
    assert (run.rows, run.finished) == ([{"eval/em": 0.5, "train/step": 3}], 1)
    assert run.step_metrics == {"train/step": None, "*": "train/step"}


@pytest.mark.fault("item 20: scalars named by what they are, and one W&B run for a resumed run")
def test_a_resumed_run_goes_on_in_the_same_wandb_run(tmp_path: Path, wandb: WandbDouble):
    def session(first: int, last: int, history: History) -> None:
        [logger] = open_loggers(config(wandb_project="search"), tmp_path, first, history)
        for step in range(first, last):
            logger.show(step, {"examples/tree": "a tree"})
            logger.log(Row(step, False, {"rollout/em": step / 10}))
            logger.log(Row(step, True, {"eval/em": step / 10}))
        logger.close()

    def history(end: int) -> History:
        pairs = [("rollout/em", False), ("eval/em", True)]
        rows = (Row(step, kind, {name: step / 10}) for step in range(1, end) for name, kind in pairs)
        return History(tuple(rows))

    session(1, 4, History())
    [run] = wandb.runs.values()
    # After step 2: W&B has step 3 already.
    session(3, 5, history(3))
    numbers = [(row["train/step"], *row) for row in run.rows if "examples/tree" not in row]
    assert numbers == [(step, name, "train/step") for step in range(1, 5) for name in ("rollout/em", "eval/em")]
    assert [row["train/step"] for row in run.rows if "examples/tree" in row] == [1, 2, 3, 4]
    # After step 4, of which W&B never got the numbers: they are sent again.
    run.lose(2)
    session(5, 6, history(5))
    again = [(row["train/step"], *row) for row in run.rows if "examples/tree" not in row]
    assert again == [(step, name, "train/step") for step in range(1, 6) for name in ("rollout/em", "eval/em")]
    # W&B itself has dropped nothing, which it warns of.
    assert run.dropped == 0 and len(wandb.runs) == 1
    open_loggers(config(wandb_project="another"), tmp_path, 5)
    assert len(wandb.runs) == 2
    other = tmp_path / "other"
    other.mkdir()
    open_loggers(config(wandb_project="search"), other, 1)
    assert len(wandb.runs) == 3


@pytest.mark.fault("item 20: one W&B run for a resumed run")
def test_a_run_that_wandb_does_not_open_is_one_line(tmp_path: Path, wandb: WandbDouble):
    wandb.refusal = "No API key configured. Use `wandb login` to log in."
    with pytest.raises(ConfigError, match=r"log\.wandb_project=search: W&B did not open the run: No API key"):
        open_loggers(config(wandb_project="search"), tmp_path, 1)


@pytest.mark.parametrize("stored", ["{", "[]", "{}"])
def test_a_damaged_id_is_one_line(tmp_path: Path, wandb: WandbDouble, stored: str):
    (tmp_path / "wandb.json").write_text(stored)
    with pytest.raises(ConfigError, match=r"wandb\.json cannot be read .* remove it"):
        open_loggers(config(wandb_project="search"), tmp_path, 1)


@pytest.mark.fault("item 20: scalars named by what they are, and one W&B run for a resumed run")
def test_scalars_are_named_by_what_they_are():
    metrics = {"entropy": 1.0, "em": None, "prefilled_tokens": 7, "update_loss": 0.1, "update_grad_norm": math.nan}
    timings = {"step": 3.0, "rollout": 2.0, "update": 1.0, "tokens_per_second": 9.0}
    assert row(4, metrics, timings) == Row(
        4,
        False,
        {
            "rollout/entropy": 1.0,
            "engine/prefilled_tokens": 7,
            "update/loss": 0.1,
            "time/step_seconds": 3.0,
            "time/rollout_seconds": 2.0,
            "time/update_seconds": 1.0,
            "time/tokens_per_second": 9.0,
        },
    )
    evaluated = {"eval_success": 0.5, "eval_questions": 2}
    named = {"eval/success": 0.5, "eval/questions": 2, "time/eval_seconds": 4.0}
    assert row(0, evaluated, {"eval": 4.0}) == Row(0, True, named)
    assert row(1, {"of_another_version": 1.0}, {}).scalars == {"other/of_another_version": 1.0}


COUNTS = {"prefilled_tokens": 1, "sharable_tokens": 2, "shared_tokens": 1, "straddling": 0}


@pytest.mark.fault("item 20: scalars named by what they are, and one W&B run for a resumed run")
def test_every_metric_has_a_group():
    """A key that ``GROUPS`` lacks fails here; of a whole run, in ``test_trainer``."""
    rollout = rollout_metrics(Rollout((), {}, 0, 0), [], [*SearchQAEnv.metrics, *ToolEnv.metrics])
    engine = engine_metrics(dict.fromkeys(COUNTS, 0), COUNTS)
    names = row(1, {**dict.fromkeys(rollout, 1.0), **dict.fromkeys(engine, 1.0)}, {}).scalars
    assert len(names) == len(rollout) + len(engine)
    assert [name for name in names if name.startswith("other/")] == []
    assert {*rollout, *engine, "generated_tokens", "calls", "staleness"} == {
        metric for group in GROUPS.values() for metric in group
    }


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
