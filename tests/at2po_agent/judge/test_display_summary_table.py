from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from at2po_agent.intervals import Interval
from at2po_agent.judge.results.metrics import Summary
from at2po_agent.judge.results.tables import summary_table
from at2po_agent.terminal import amount

SUMMARY = Summary(
    questions=1,
    episodes=4,
    errors=1,
    means={"em": Interval(0.5, 0.25, 0.75, 1), "prompt_tokens": Interval(12345.6, 9000, 20000, 1)},
    prompt_tokens=61_728,
    completion_tokens=400,
)


def shown(summary: Summary) -> str:
    console = Console(width=100, record=True, file=StringIO())
    console.print(summary_table(summary, "of"))
    return console.export_text()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00001234, "0.00001234"),
        (0.2553, "0.2553"),
        (1.745, "1.745"),
        (1.85, "1.85"),
        (132.6, "132.6"),
        (-12345.6, "-12,346"),
    ],
)
def test_amounts_have_no_exponent(value: float, text: str) -> None:
    assert amount(value) == text


def test_one_sample_of_a_question_has_plain_names() -> None:
    lines = shown(SUMMARY)
    assert "│ em            │  50.0% │  25.0% to 75.0% │" in lines
    assert "│ prompt tokens │ 12,346 │ 9,000 to 20,000" in lines
    assert "1 question, 4 episodes scored, 1 error" in lines
    assert "61,728 prompt and 400 completion tokens" in lines and "cost" not in lines


def test_several_samples_say_what_is_a_mean_and_what_a_chance() -> None:
    lines = shown(replace(SUMMARY, pass_at={2: Interval(0.6, 0.3, 0.8, 1), 4: Interval(0.75, 0.5, 1, 1)}, cost=0.0432))
    assert "em (mean@4)" in lines and "pass@2" in lines and "75.0% │" in lines
    assert "cost 0.0432" in lines
