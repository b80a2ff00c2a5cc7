"""Tables of an audit, by hand."""

from __future__ import annotations

import json

import pytest

from at2po_agent.study.audit import ADVANTAGES, VALUES, Audit
from at2po_agent.study.audit_page import notes, sheets, spearman, write_audit
from tests.helpers.audited import audited_turn as turn


@pytest.fixture
def found() -> Audit:
    turns = [
        turn(0, 1.0, 0.5, entropy=0.9, changed=1.0, leaves=1),
        turn(0, -1.0, -0.5, entropy=0.1, changed=0.0, leaves=5, depth=2),
        turn(1, 2.0, 1.5, entropy=0.8, changed=0.5, leaves=1),
        turn(1, 0.0, 0.5, entropy=0.2, changed=0.0, leaves=3),
        turn(2, 0.0, 9.0, signal=False, changed=0.0),
    ]
    return Audit("run", 3, 8, per_round=1, trees=4, turns=tuple(turns))


def test_advantages_by_hand():
    one = turn(0, 1.0, 0.5)
    assert [one.advantage("leaf_mean", form) for form in ADVANTAGES] == [1.0, 0.5, 0.75, 1.25]
    assert [one.true_advantage(form) for form in ADVANTAGES] == [0.5, 0.25, 0.5, 0.75]


def test_values_against_fresh_rollouts(found):
    values, advantages, by_depth, by_leaves, where = sheets(found)
    # Tree 0 is 0.5 too high and 0.5 too low, tree 1 likewise: no bias. One tree without signal does not count.
    assert values.rows[0] == ("child_softmax", "4", "+0.00", "0.95", "0.50")
    assert len(advantages.rows) == len(VALUES) * len(ADVANTAGES)
    assert [row[:3] for row in by_depth.rows] == [("1", "3", "+0.25, 0.87"), ("2", "1", "-0.50, –")]
    assert [row[:2] for row in by_leaves.rows] == [("1", "2"), ("2 to 3", "1"), ("4 to 7", "1")]
    assert [row[1] for row in where.rows[:2]] == ["1.00", "-1.00"]  # inside each tree
    picked = {row[0]: row[2] for row in where.rows}
    # Entropy finds the turns whose forks change the outcome, most leaves those whose forks do not.
    assert picked["entropy H(n)"] == picked["the best in hindsight"] == "50.0%" and picked["most leaves"] == "0.0%"


def test_rank_correlation():
    assert spearman([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)
    assert spearman([1, 1, 1], [1, 2, 3]) is None


def test_the_files_of_an_audit(found, tmp_path):
    write_audit(tmp_path / "out", found)
    stored = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert stored["step"] == 3 and stored["turns"][0]["values"]["leaf_mean"] == 1.0 and len(stored["turns"]) == 5
    text = (tmp_path / "out" / "audit.md").read_text()
    assert "# Audit of run" in text and "| entropy H(n) |" in text
    assert "Audit of run" in (tmp_path / "out" / "audit.html").read_text()
    assert notes(found)[0].startswith("4 inner turns of 2 trees whose rewards differ (4 looked at)")
