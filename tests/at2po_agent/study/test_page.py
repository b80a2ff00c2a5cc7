from __future__ import annotations

from at2po_agent.study.comparison import TrainingComparison, by_configuration
from at2po_agent.study.page import Page, report
from at2po_agent.study.runs import TrainedRun
from tests.helpers.trained_runs import write_run


def test_both_forms_of_the_page(tmp_path):
    runs = [TrainedRun.read(write_run(tmp_path / name, [[0, 1], [1, 1]], algorithm=name)) for name in ("grpo", "gspo")]
    found = TrainingComparison.of(by_configuration(runs))
    report(Page("a <study>"), found).write_html(tmp_path / "page.html")
    assert "<title>a &lt;study&gt;</title>" in (tmp_path / "page.html").read_text()
    report(Page("a study"), found).write_markdown(tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("# a study\n\n2 variants, 2 runs, compared with grpo.\n")
    assert "| grpo | 1 | 100.0 |" in text and "**Not equal**" in text
