"""A run that collapses says so once, in one line with what to look at, and stops where it is told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from at2po_agent.commands.main import main
from at2po_agent.training import checkpoints
from at2po_agent.training.collapse import QUIET, SYMPTOMS, CollapseWatch
from at2po_agent.training.run_dir import read_metrics
from tests.at2po_agent.training.test_watch import train

# Of the quick start, about.
HEALTHY: dict[str, Any] = {
    "reward": 0.4,
    "entropy": 0.3,
    "malformed": 0.01,
    "leaves": 512,
    "trees": 32,
    "trees_with_signal": 25,
    "groups_equal": 0,
    "update_clip_fraction": 0.01,
    "update_ratio_min": 0.9,
    "update_ratio_max": 1.1,
    "update_steps": 1.0,
    "update_skipped_steps": 0.0,
}
# What changes, after how many such steps it is said, and how.
COLLAPSES: dict[str, tuple[dict[str, Any], int, str]] = {
    "entropy near 0": ({"entropy": 0.001}, 5, "the entropy is near 0 (0.001 nats a token)"),
    "entropy exploding": ({"entropy": 4.0}, 1, "the entropy explodes (1.04 nats a token, 0.30 in the first steps)"),
    "groups without signal": ({"trees_with_signal": 0}, 3, "all of the last 96 groups have equal rewards"),
    "clip fraction": ({"update_clip_fraction": 0.97}, 3, "97% of the tokens are clipped"),
    "ratios": ({"update_ratio_max": 2e4}, 3, "the ratio of new to old probabilities has extremes (0.9 and 2e+04)"),
    "malformed": ({"malformed": 0.9}, 3, "malformed replies rise (28% of the paths, 1% before)"),
    "skipped updates": ({"update_steps": 3.0, "update_skipped_steps": 1.0}, 1, "1 of 4 updates of the step were"),
}


def watched(steps: list[dict[str, Any]]) -> list[list[str]]:
    watch = CollapseWatch()
    return [watch.see(step) for step in steps]


@pytest.mark.fault("item 16: a watch on collapse")
@pytest.mark.parametrize("name", SYMPTOMS)
def test_a_collapse_is_one_line_when_it_begins_with_what_to_look_at(name: str) -> None:
    change, after, text = COLLAPSES[name]
    texts = watched([HEALTHY] * 20 + [HEALTHY | change] * 40)
    assert [at for at, sentences in enumerate(texts) if sentences] == [19 + after]
    (sentence,) = texts[19 + after]
    assert sentence.startswith(text)
    assert ": look at " in sentence
    assert "\n" not in sentence


def test_a_symptom_that_comes_and_goes_is_printed_again_only_after_a_quiet_time() -> None:
    skipped = HEALTHY | {"update_skipped_steps": 1.0}
    steps = [skipped, HEALTHY, skipped, *[HEALTHY] * QUIET, skipped, skipped]
    assert [at for at, texts in enumerate(watched(steps)) if texts] == [0, 3 + QUIET]


def test_groups_that_dynamic_sampling_left_out_count_and_a_few_equal_ones_are_chance() -> None:
    left_out = HEALTHY | {"trees": 0, "trees_with_signal": 0, "groups_equal": 20, "reward": None, "leaves": 0}
    assert [bool(texts) for texts in watched([left_out | {"malformed": None}] * 5)] == [
        False,
        False,
        False,
        True,
        False,
    ]
    assert not any(watched([HEALTHY | {"trees": 2, "trees_with_signal": 0}] * 31))


@settings(max_examples=50)
@given(st.lists(st.sampled_from([HEALTHY, *(HEALTHY | change for change, *_ in COLLAPSES.values())]), max_size=60))
def test_null_and_missing_metrics_are_no_symptom_and_no_error(steps: list[dict[str, Any]]) -> None:
    holes = [{name: None if at % 2 else value for name, value in step.items()} for at, step in enumerate(steps)]
    watched(holes)
    watched([{}, *steps, {}])
    assert watched([*[HEALTHY] * 5, *steps]) == watched([*[dict(HEALTHY)] * 5, *steps])


STOP = "train.stop_on_collapse=true"
NO_FINITE_LOSS = "name: grpo, expansion: {n: 2}, objective: {kl_coef: 1e39}"


@pytest.mark.fault("item 16: train.stop_on_collapse")
def test_a_run_stops_on_a_collapse_with_a_checkpoint_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, STOP, "checkpoint.keep=1", algorithm=NO_FINITE_LOSS) == 1
    out = capsys.readouterr().out
    assert out.count("step 1: every update was skipped") == 1
    assert "stopped after step 1, because train.stop_on_collapse is set: every update was skipped" in out
    assert f"--resume {tmp_path / 'run'}" in out
    assert len(list(read_metrics(tmp_path / "run"))) == 1
    kept = checkpoints.latest(tmp_path / "run" / "checkpoints", print)
    assert kept is not None
    assert kept.step == 1


def test_a_run_that_goes_on_after_a_collapse_does_not_stop_for_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hot policy and exact match: no reply earns a reward."""
    assert train(tmp_path, STOP, "rollout.questions=16") == 1
    out = capsys.readouterr().out
    assert "step 4: all of the last 64 groups have equal rewards (the mean reward is 0.00)" in out
    assert main(["train", "--resume", str(tmp_path / "run"), "train.steps=6"]) == 0
    assert "equal rewards" not in capsys.readouterr().out
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
