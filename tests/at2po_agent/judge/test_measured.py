from __future__ import annotations

import pytest

from at2po_agent.judge.measured import MEASURES, Measured
from at2po_env.tasks import Metric
from examples.number_game import make_env


def test_what_a_manifest_does_not_name_is_search() -> None:
    for manifest in ({}, {"metrics": "hotpotqa-squad/1"}, {"metrics": []}):
        measured = Measured.stored(manifest)
        assert (measured.first.name, measured.own, measured.task_word) == ("em", (), "question")
        assert list(measured.measures) == list(MEASURES)


def test_metrics_of_an_environment_come_first_and_are_stored_as_they_are() -> None:
    measured = Measured.by(make_env())
    stored = [{"name": m.name, "share": m.share, "title": m.title, "words": m.words} for m in measured.metrics]
    assert Measured.stored({"metrics": stored, "task_word": "task"}) == measured
    assert list(measured.measures)[:3] == ["success", "reward", "malformed"]
    assert [metric.name for metric in measured.own] == ["success", "reward"]


def test_a_measure_says_whether_it_is_a_share_and_how_it_is_called() -> None:
    measured = Measured((Metric("success", share=True), Metric("best_of", title="Best")))
    assert [measured.metric(name).share for name in ("success", "best_of", "cut", "turns")] == [
        True,
        False,
        True,
        False,
    ]
    assert [measured.metric(name).heading for name in ("best_of", "prompt_tokens")] == ["Best", "prompt tokens"]
    with pytest.raises(KeyError):
        measured.metric("beauty")
