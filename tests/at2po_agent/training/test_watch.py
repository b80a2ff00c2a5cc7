"""A run that cannot learn ends with one line that says why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from at2po_agent.commands.main import main
from at2po_agent.training.run_dir import read_metrics
from at2po_agent.training.watch import PATIENCE, SkippedUpdates, TrainingError
from tests.helpers.own_task import ID, IMPORT, KEEPERS, build_index, write_questions


def train(folder: Path, *overrides: str, reward: str = "em", algorithm: str = "name: grpo, expansion: {n: 2}") -> int:
    write_questions(folder, KEEPERS)
    build_index(folder, KEEPERS)
    settings = ["policy.path=builtin:microwiki", f"env.id={ID}", IMPORT, f"run_dir={folder / 'run'}"]
    settings += [f"env.kwargs={{folder: {folder}, max_searches: 1, reward: {reward}}}", f"algorithm={{{algorithm}}}"]
    settings += ["rollout={questions: 2, max_turn_tokens: 8, temperature: 2}", "train.steps=9", "eval.questions=0"]
    return main(["train", *settings, *overrides])


@pytest.mark.fault("item 16: a reward that is NaN")
@pytest.mark.parametrize(
    "algorithm",
    [
        "name: grpo, expansion: {n: 2}",
        "name: dapo, expansion: {n: 2}, groups: {max_batches: 2}",  # its groups of equal rewards are left out
        "expansion: {chains: 2, per_round: 1, rounds: 1}",
    ],
)
@pytest.mark.parametrize(("reward", "value"), [("nan", "nan"), ("infinite", "-inf")])
def test_a_reward_that_is_not_finite_ends_the_run_before_its_update(
    reward: str, value: str, algorithm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, reward=reward, algorithm=algorithm) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    answer = r"(the answer '.*'|no answer \(it ended by \w+\))"
    source = rf"tests.helpers.own_task.{reward}_reward must return a finite number"
    assert re.match(rf"at2po-agent: error: the reward is {value} for {answer} to question 'q\d': {source}", line)
    assert list(read_metrics(tmp_path / "run")) == []


@pytest.mark.fault("item 16: a reward that is NaN")
def test_a_run_whose_updates_are_all_skipped_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A KL coefficient beyond 32-bit floats: the loss is not finite, though every reward is."""
    assert train(tmp_path, algorithm="name: grpo, expansion: {n: 2}, objective: {kl_coef: 1e39}") == 2
    out, err = capsys.readouterr()
    assert "every update of 3 steps in a row was skipped, up to step 3" in err.splitlines()[-1]
    assert out.count("every update was skipped") == 1  # said when it begins
    assert [line["update_skipped_steps"] for line in read_metrics(tmp_path / "run")] == [1, 1, 1]


def test_only_steps_in_a_row_count_and_those_without_an_update_do_not() -> None:
    watch = SkippedUpdates()
    skipped, partly, taken = ({"steps": s, "skipped_steps": k} for s, k in ((0.0, 2.0), (1.0, 1.0), (2.0, 0.0)))
    for step, updated in enumerate([skipped, skipped, partly, skipped, {}, skipped, taken, skipped, {}, skipped]):
        watch.see(step, updated)
    with pytest.raises(TrainingError, match=f"every update of {PATIENCE} steps in a row was skipped, up to step 10"):
        watch.see(10, skipped)
