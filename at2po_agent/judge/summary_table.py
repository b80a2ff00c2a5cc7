"""The numbers of an evaluation as a table on the screen."""

from __future__ import annotations

import math

from rich.table import Table

from at2po_agent.judge.metrics import Summary

_SHARES = ("em", "f1", "contains", "malformed", "recall")


def summary_table(summary: Summary, title: str) -> Table:
    """Every mean with its interval; below them what was counted, and paid for, in all."""
    table = Table(title=title)
    table.add_column("")
    table.add_column("mean", justify="right")
    table.add_column("95 % interval", justify="right")
    samples = max(summary.pass_at, default=1)
    rows = {name.replace("_", " "): value for name, value in summary.means.items()}
    if samples > 1:
        rows = {f"em (mean@{samples})" if name == "em" else name: value for name, value in rows.items()}
    for name, value in (rows | {f"pass@{k}": value for k, value in summary.pass_at.items()}).items():
        form = _share if name.split()[0] in _SHARES or name.startswith("pass@") else amount
        table.add_row(name, form(value.mean), f"{form(value.low)} to {form(value.high)}")
    scored = f"{counted(summary.questions, 'question')}, {counted(summary.episodes, 'episode')} scored"
    paid = f"{summary.prompt_tokens:,} prompt and {summary.completion_tokens:,} completion tokens"
    cost = "" if summary.cost is None else f"\ncost {amount(summary.cost)}"
    table.caption = f"{scored}, {counted(summary.errors, 'error')}\n{paid}{cost}"
    return table


def amount(value: float) -> str:
    """Four significant digits, or all before the point, without an exponent."""
    decimals = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def _share(value: float) -> str:
    return f"{value:.1%}"


def counted(number: int, noun: str) -> str:
    """``1 question``, ``2 questions``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
