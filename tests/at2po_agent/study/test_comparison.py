from __future__ import annotations

import pytest

from at2po_agent.settings import ConfigError
from at2po_agent.study.comparison import TrainingComparison, by_configuration
from at2po_agent.study.runs import TrainedRun
from tests.helpers.trained_runs import write_run


def read(path, *arguments, **options) -> TrainedRun:
    return TrainedRun.read(write_run(path, *arguments, **options))


def test_runs_that_differ_in_their_seed_are_one_variant(tmp_path):
    runs = [
        read(tmp_path / "a1", [[0, 0], [1, 0]], seed=1, algorithm="grpo"),
        read(tmp_path / "b1", [[0, 0], [1, 1]], seed=1),
        read(tmp_path / "a2", [[0, 0], [1, 1]], seed=2, algorithm="grpo"),
    ]
    found = TrainingComparison.of(by_configuration(runs))
    assert [(variant.name, list(variant.runs)) for variant in found.variants] == [("grpo", [1, 2]), ("at2po", [1])]
    assert found.scores(found.variants[0]).tolist() == [[1, 0], [1, 1]]
    (difference,) = found.differences([found.scores(variant) for variant in found.variants])
    assert difference is not None
    assert (difference.estimate.mean, difference.estimate.seeds) == (0.5, 1)  # of the seed that both have


def test_two_variants_of_one_algorithm_are_told_apart_by_their_folders(tmp_path):
    runs = [read(tmp_path / "short", [[0], [1]]), read(tmp_path / "long", [[0], [1], [1]])]
    assert [variant.name for variant in by_configuration(runs)] == ["at2po (short)", "at2po (long)"]


def test_a_setting_that_an_earlier_version_did_not_have_is_at_its_default(tmp_path):
    path, other = write_run(tmp_path / "old", [[0], [1]]), read(tmp_path / "new", [[0], [1]], seed=2)
    config = (path / "config.yaml").read_text().splitlines()
    kept = [line for line in config if "max_calls:" not in line and "max_cpu_seconds:" not in line]
    assert len(kept) == len(config) - 2
    (path / "config.yaml").write_text("\n".join(kept))
    (variant,) = by_configuration([TrainedRun.read(path), other])
    assert list(variant.runs) == [1, 2]


def test_no_seed_in_common_gives_no_difference(tmp_path):
    runs = [read(tmp_path / "a", [[0], [1]], algorithm="grpo"), read(tmp_path / "b", [[0], [1]], seed=2)]
    found = TrainingComparison.of(by_configuration(runs))
    assert found.differences([found.scores(variant) for variant in found.variants]) == [None]


def test_only_questions_that_every_evaluation_scored_count(tmp_path):
    runs = [read(tmp_path / "a", [[0, 1], [1, 0, 1]], algorithm="grpo"), read(tmp_path / "b", [[0, 1, 1], [1, 1, 1]])]
    assert TrainingComparison.of(by_configuration(runs)).questions == ("q0", "q1")


def test_what_cannot_be_compared(tmp_path):
    one = read(tmp_path / "a", [[0], [1]])
    with pytest.raises(ConfigError, match="the same run twice: seed 1"):
        by_configuration([one, one])
    other = read(tmp_path / "b", [[0], [1]], algorithm="grpo", source="maze test")
    variants = by_configuration([one, other])
    with pytest.raises(ConfigError, match=r"b differs from a in questions' source.* --anyway"):
        TrainingComparison.of(variants)
    assert TrainingComparison.of(variants, anyway=True).unlike == ("b differs from a in questions' source",)
    with pytest.raises(ConfigError, match="no evaluation to compare"):
        TrainingComparison.of(by_configuration([one, read(tmp_path / "c", [], steps=0)]))
