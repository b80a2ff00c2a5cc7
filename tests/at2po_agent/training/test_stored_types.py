from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from at2po_agent.training.metrics import Scores
from at2po_agent.training.stored_types import check_metrics, check_scores, check_tree
from search_backend.outside import Unusable
from tests.helpers.stored_trees import grown, record

SCORES = {"step": 1, "ids": ["a", "b"], "values": [1.0, 0.0], "groups": ["", ""], "means": {"f1": None}, "source": "x"}


def test_scores_are_read_of_this_version_and_of_earlier_ones() -> None:
    wanted = Scores(1, ("a", "b"), (1.0, 0.0), ("", ""), {"f1": None}, "x")  # type: ignore[dict-item]
    earlier = {"em" if name == "values" else name: value for name, value in SCORES.items()}
    assert check_scores(SCORES) == check_scores(earlier) == wanted


@pytest.mark.parametrize(
    "changes",
    [{"values": [1.0]}, {"values": [2.0, 0.0]}, {"values": "x"}, {"ids": [1, 2]}, {"step": -1}, {"share": "yes"}],
)
def test_scores_that_are_none_are_unusable(changes: dict[str, Any]) -> None:
    with pytest.raises(Unusable):
        check_scores({**SCORES, **changes})


def test_rewards_are_no_shares() -> None:
    scores = check_scores({**SCORES, "values": [7.0, -1.0], "metric": "reward", "title": "reward", "share": False})
    assert scores.mean == 3.0


def test_metrics_are_numbers_words_or_null() -> None:
    line = {"step": 1, "em": 0.5, "loss": None, "note": "x", "time": {"step": 0.1}}
    assert check_metrics(line) == line
    for wrong in ([], {"em": 1}, {**line, "em": [1]}, {**line, "time": {"step": "x"}}):
        with pytest.raises(Unusable):
            check_metrics(wrong)


def test_a_tree_whose_parts_do_not_belong_together_is_unusable() -> None:
    whole = json.loads(json.dumps(record(grown())))
    assert check_tree(whole) == whole
    for change in (
        lambda tree: tree["texts"].pop(),
        lambda tree: tree["advantages"].pop(),
        lambda tree: tree["tree"]["nodes"][-1].update(parent=99),
        lambda tree: tree["tree"]["nodes"][-1].update(logp=["x"]),
    ):
        damaged = copy.deepcopy(whole)
        change(damaged)
        with pytest.raises(Unusable):
            check_tree(damaged)
