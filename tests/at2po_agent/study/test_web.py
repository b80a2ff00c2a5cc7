"""The page of a comparison in a real browser, on a desk and on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from at2po_agent.study.comparison import TrainingComparison, by_configuration
from at2po_agent.study.page import Page, report
from at2po_agent.study.runs import TrainedRun
from tests.at2po_agent.judge.view.test_web import browser, opened  # noqa: F401 (fixtures)
from tests.at2po_agent.judge.view.test_web_layout import check
from tests.helpers.trained_runs import write_run

pytestmark = pytest.mark.service


def written(tmp_path: Path) -> Path:
    runs = [
        TrainedRun.read(write_run(tmp_path / f"{name}{seed}", [[0] * 4, values], seed=seed, algorithm=name))
        for name, of_seeds in (("grpo", ([1, 0, 0, 0], [1, 1, 0, 0])), ("at2po", ([1, 1, 0, 0], [1, 1, 1, 1])))
        for seed, values in enumerate(of_seeds)
    ]
    failed = {"at2po-seed9": "failed: </script><img src=x onerror='window.hacked=1'>" + "x" * 90}
    found = TrainingComparison.of(by_configuration(runs), failed=failed)
    report(Page("a study"), found).write_html(tmp_path / "page.html")
    return tmp_path / "page.html"


@pytest.mark.parametrize("width", [1280, 390])
def test_tables_curves_and_failed_runs_are_all_there(opened: Any, tmp_path: Path, width: int) -> None:  # noqa: F811
    phone = {"is_mobile": True, "has_touch": True} if width < 600 else {}
    page = opened(written(tmp_path), viewport={"width": width, "height": 800}, **phone)
    tab = page.tab
    check(tab)
    row = tab.locator("details", has_text="Difference from grpo").locator("tbody tr").first
    assert row.inner_text().split("\t")[:3] == ["at2po", "2", "+37.5"]
    assert tab.locator(".plot").count() == 4
    chart = tab.locator(".chart").first
    assert "grpo 37.5 %" in chart.inner_text() and "at2po 75.0 %" in chart.inner_text()
    chart.locator("svg").press("ArrowLeft")
    chart.locator("svg").press("ArrowLeft")
    assert "generated tokens 95.83" in chart.inner_text()
    assert "</script><img" in tab.inner_text("#head")
    page.check()
