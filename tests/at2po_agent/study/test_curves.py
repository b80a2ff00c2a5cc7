from __future__ import annotations

import numpy as np
import pytest

from at2po_agent.study.curves import area, curve
from at2po_agent.study.runs import TrainedRun
from tests.helpers.trained_runs import write_run

IDS = ["q0", "q1"]


def test_the_area_is_the_mean_of_the_curve_of_each_question(tmp_path):
    run = TrainedRun.read(write_run(tmp_path / "run", [[0, 0], [1, 0], [1, 1]]))
    # q0 rises from 0 to 1 over the first 100 tokens and stays; q1 rises over the second.
    assert area(run, "tokens", IDS, 200) == pytest.approx([0.75, 0.25])
    assert area(run, "tokens", IDS, 100) == pytest.approx([0.5, 0.0])
    assert area(run, "tokens", IDS, 150) == pytest.approx([(50 + 50) / 150, 12.5 / 150])
    assert area(run, "calls", IDS, 20) == pytest.approx([0.75, 0.25])
    assert area(run, "tokens", IDS, 0) == pytest.approx([0.0, 0.0])


def test_a_curve_is_straight_between_evaluations_with_an_interval_inside_the_scale(tmp_path):
    runs = [
        TrainedRun.read(write_run(tmp_path / "a", [[0, 0], [1, 1]], seed=1)),
        TrainedRun.read(write_run(tmp_path / "b", [[0, 0], [1, 0]], seed=2)),
    ]
    points = curve("at2po", runs, "tokens", IDS, 100).points
    assert (points[0].x, points[-1].x) == (0, 100)
    assert [point.mean for point in points] == pytest.approx(list(np.linspace(0, 0.75, len(points))))
    assert all(0 <= point.low <= point.mean <= point.high <= 1 for point in points)


def test_a_run_with_one_evaluation_is_flat(tmp_path):
    run = TrainedRun.read(write_run(tmp_path / "run", [[0, 1]]))
    assert {point.mean for point in curve("a", [run], "tokens", IDS, 50).points} == {0.5}
