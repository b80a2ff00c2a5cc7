from __future__ import annotations

import pytest

from at2po_agent.judge.results.tables import Sheet
from at2po_agent.study.comparison import TrainingComparison, by_configuration
from at2po_agent.study.runs import TrainedRun
from at2po_agent.study.tables import notes, sheets
from tests.helpers.trained_runs import write_run

FIRST = {1: [1, 0, 0, 0], 2: [1, 1, 0, 0]}
SECOND = {1: [1, 1, 1, 0], 2: [1, 1, 1, 1]}


@pytest.fixture
def found(tmp_path) -> TrainingComparison:
    runs = [
        TrainedRun.read(write_run(tmp_path / f"{name}{seed}", [[0] * 4, values], seed=seed, algorithm=name))
        for name, of_seeds in (("grpo", FIRST), ("at2po", SECOND))
        for seed, values in of_seeds.items()
    ]
    variants = by_configuration(runs)
    return TrainingComparison.of(variants, failed={"at2po-seed3": "failed: out of memory"})


def by_title(found: TrainingComparison, start: str) -> Sheet:
    return next(sheet for sheet in sheets(found) if sheet.title.startswith(start))


def test_scores_and_differences(found):
    scores = by_title(found, "Exact match after training, %")
    assert [(row[0], row[1], row[2], row[4]) for row in scores.rows] == [
        ("grpo", "2", "37.5", "25.0 to 50.0"),
        ("at2po", "2", "87.5", "75.0 to 100.0"),
    ]
    (row,) = by_title(found, "Difference from grpo, points").rows
    # Both seeds gain 50 points; the interval is of questions alone.
    assert row[:3] == ("at2po", "2", "+50.0") and row[3].startswith("+")


def test_areas_costs_and_the_way(found):
    areas = by_title(found, "Area under the curve")
    assert areas.header[1] == "over generated tokens, to 100" and areas.rows[0][1] == "18.8"
    assert areas.rows[1][1].startswith("43.8 (+25.0: ")
    cost = by_title(found, "Cost of a run")
    assert cost.rows[0] == ("grpo", "1.0", "100", "10", "2", "3", "50")
    assert by_title(found, "Exact match on the way").rows[1][2].startswith("43.8 [")


def test_scores_after_equally_many_steps(tmp_path):
    longer = [[0] * 4, [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    grown = {("grpo", 1): longer, ("grpo", 2): longer[:3], ("at2po", 1): longer[:3], ("at2po", 2): longer[:3]}
    runs = [
        TrainedRun.read(write_run(tmp_path / f"{name}{seed}", values, seed=seed, algorithm=name))
        for (name, seed), values in grown.items()
    ]
    sheet = by_title(TrainingComparison.of(by_configuration(runs)), "Exact match after equally many steps, %")
    # The third step is of one run alone.
    assert sheet.header == ("", "step 1", "step 2")
    assert [cell.split()[0] for cell in sheet.rows[1][1:]] == ["25.0", "50.0"]


def test_only_some_of_many_steps_are_shown_and_the_last_of_them_is(tmp_path):
    runs = [
        TrainedRun.read(write_run(tmp_path / name, [[0] * 4] * 21, seed=1, algorithm=name)) for name in ("a", "grpo")
    ]
    header = by_title(TrainingComparison.of(by_configuration(runs)), "Exact match after equally many steps").header
    assert 2 <= len(header) - 1 <= 8 and header[-1] == "step 20"


def test_what_was_equal_and_what_was_not(found):
    assert by_title(found, "Not equal").rows == (("algorithm.name", "grpo", "at2po"),)
    equal = dict(by_title(found, "Equal").rows)
    assert equal["seeds"] == "1, 2" and equal["env.id"] == "AT2PO-MicroWiki-v0" and equal["train.steps"] == "1"
    assert equal["eval_env.dataset.digest"] == "d" * 64


def test_failed_runs_are_shown(found):
    assert by_title(found, "Runs that are not in these numbers").rows == (("at2po-seed3", "failed: out of memory"),)


def test_notes(found):
    assert "4 questions of microwiki test that every evaluation scored" in notes(found)
    assert any("two-way mixed model" in note for note in notes(found))


def test_a_run_that_goes_on_after_its_last_evaluation_is_named(tmp_path):
    path = write_run(tmp_path / "cut", [[0, 1], [1, 1], [1, 1]])
    (path / "evaluations" / "step_000002.json").unlink()
    found = TrainingComparison.of(by_configuration([TrainedRun.read(path)]))
    assert "cut: its last evaluation is after step 1 of 2" in notes(found)


def test_variants_without_a_common_seed_have_no_difference_and_the_page_says_so(tmp_path):
    runs = [
        TrainedRun.read(write_run(tmp_path / name, [[0] * 4, [1] * 4], seed=seed, algorithm=name))
        for name, seed in (("at2po", 0), ("grpo", 1))
    ]
    assert "grpo and at2po have no seed in common, so no difference is shown" in notes(
        TrainingComparison.of(by_configuration(runs))
    )


def test_one_seed_is_said_to_be_one(tmp_path):
    runs = [TrainedRun.read(write_run(tmp_path / name, [[0, 1], [1, 1]], algorithm=name)) for name in ("grpo", "gspo")]
    found = TrainingComparison.of(by_configuration(runs))
    assert any(note.startswith("one seed") for note in notes(found))
    assert by_title(found, "Difference").rows[0][4:] == ("–", "–")


def test_adjusted_differences_are_only_announced_where_there_are_so_many(tmp_path):
    # Five variants have a rival's seed, one has none: four differences, which are not adjusted to each other.
    names = ("grpo", "gspo", "dapo", "at2po", "gigpo", "aepo")
    runs = [
        TrainedRun.read(write_run(tmp_path / name, [[0, 1], [1, 1]], algorithm=name, seed=1 if name != "aepo" else 2))
        for name in names
    ]
    found = TrainingComparison.of(by_configuration(runs))
    assert not any("Holm" in note for note in notes(found))
    runs[-1] = TrainedRun.read(write_run(tmp_path / "again", [[0, 1], [1, 1]], algorithm="aepo"))
    assert any("Holm" in note for note in notes(TrainingComparison.of(by_configuration(runs))))
