"""A comparison as tables: Hotpot, 2Wiki, MuSiQue, Bamb, two averages, NQ, TriviaQA, PopQA, two averages, others.

One average is over benchmarks, each counting once. The other is over questions, as the paper's is: benchmarks count as
the questions of their official sets, whatever part of them was asked (docs/paper_results.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text as Line

from at2po_agent.intervals import average_interval, paired_mean_interval, paired_share_interval
from at2po_agent.judge.measured import Measured
from at2po_agent.judge.results.comparison import GROUPS, Column, Comparison
from at2po_agent.judge.results.metrics import SEARCH, Summary
from at2po_agent.terminal import amount, counted, percent, visible

Format = Literal["rich", "markdown", "latex"]
FORMATS: tuple[Format, ...] = ("rich", "markdown", "latex")
_SHORT = {"HotpotQA": "Hotpot", "2WikiMultiHopQA": "2Wiki", "Bamboogle": "Bamb"}
_WHOLE = {"multi-hop": 4, "single-hop": 3}  # benchmarks of a group
_NONE = "–"


@dataclass(frozen=True)
class Sheet:
    """A table of text in any format; a cell whose text is in ``best`` of its column is set bold."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: tuple[str, ...] = ()  # by column; "" for none


@dataclass(frozen=True)
class _Field:
    """A column of a table: a benchmark, or the weighted average over several."""

    name: str
    columns: tuple[Column, ...]
    weights: tuple[float, ...] = (1.0,)  # of the columns

    def values(self, row: int) -> list[Sequence[float]] | None:
        """[benchmark][question] of a row; None where a benchmark is missing."""
        found = [column.values[row] for column in self.columns]
        known = [values for values in found if values is not None]
        return known if len(known) == len(found) else None

    def mean(self, row: int) -> float | None:
        """The score of a row; None where a benchmark is missing."""
        values = self.values(row)
        return None if values is None else float(np.average([np.mean(part) for part in values], weights=self.weights))


def sheets(comparison: Comparison) -> tuple[Sheet, ...]:
    """The scores, and where there are several models their paired differences from the first."""
    fields = tuple(_fields(comparison.columns))
    header = ("Model", *(field.name for field in fields))
    metric = comparison.measured.metric(comparison.measure)
    shares = metric.share
    measured = f"{metric.heading[0].upper()}{metric.heading[1:]}, %" if shares else metric.heading
    form = _percent if shares else amount
    scores = [[field.mean(row) for field in fields] for row in range(len(comparison.rows))]
    cells = [[_NONE if value is None else form(value) for value in row] for row in scores]
    tops = [max((score for score in column if score is not None), default=None) for column in zip(*scores, strict=True)]
    # Of an amount, such as searches, none is the best.
    marked = ("", *("" if top is None or not shares else form(top) for top in tops))
    rows = tuple((name, *row) for name, row in zip(comparison.rows, cells, strict=True))
    made = [Sheet(measured, header, rows, marked if len(rows) > 1 else ())]
    if len(rows) > 1:
        differences = tuple(
            (name, *(_difference(field, row, shares) for field in fields))
            for row, name in enumerate(comparison.rows)
            if row
        )
        unit = ", points" if shares else ""
        title = f"Difference from {comparison.rows[0]}{unit}, with its 95 % paired interval"
        made.append(Sheet(title, header, differences))
    return tuple(made)


def notes(comparison: Comparison) -> tuple[str, ...]:
    """Notes for the reader: numbers of questions, questions left out, and comparisons forced by ``--anyway``."""
    found = [f"NOT LIKE FOR LIKE: {reason}" for reason in comparison.unlike]
    found += [f"{row} is {', '.join(runs)}" for row, runs in comparison.again.items()]
    for column in comparison.columns:
        n = next(len(values) for values in column.values if values is not None)
        line = f"{column.benchmark} {column.split}: {n:,} {comparison.measured.task_word}s that every run scored"
        left = [f"{column.errors:,} ended by infrastructure"] if column.errors else []
        left += [f"{column.missing:,} not in every run"] if column.missing else []
        found.append(line + (f"; left out: {', '.join(left)}" if left else ""))
        if column.split == "demo":
            found.append(f"{column.benchmark} demo: questions about an invented world, no result on the benchmark")
    averages = [field.columns for field in _fields(comparison.columns) if len(field.columns) > 1]
    if averages:
        sizes = {
            column.benchmark: f"{column.benchmark} {column.official:,}" for columns in averages for column in columns
        }
        found.append(
            "averages: over benchmarks each counts once; over questions, as in the paper, each counts as the questions "
            f"of its official set ({', '.join(sizes.values())}), however many were asked here"
        )
    return tuple(found)


def write_table(comparison: Comparison, form: Format, console: Console) -> None:
    """Print a comparison."""
    write_sheets(sheets(comparison), notes(comparison), form, console)


def write_sheets(tables: Sequence[Sheet], said: Sequence[str], form: Format, console: Console) -> None:
    """Print tables, and below them what is said of them."""
    if form == "rich":
        console.print(Group(*map(_rich, tables), *(Line(visible(note)) for note in said)))
        return
    escape, sheet, note = {
        "markdown": (markdown_text, markdown, "- {}"),
        "latex": (_latex_text, _latex, "% {}"),
    }[form]
    for one in tables:
        console.print(sheet(one), markup=False, highlight=False, soft_wrap=True)
    for text in said:
        # a comment of LaTeX needs no escapes, and a note is one line
        line = escape(text) if form == "markdown" else " ".join(visible(text).split())
        console.print(note.format(line), markup=False, highlight=False, soft_wrap=True)


def _fields(columns: Sequence[Column]) -> Iterator[_Field]:
    for group in (*GROUPS, ""):
        members = tuple(column for column in columns if column.group == group)
        for column in members:
            demo = " (demo)" if column.split == "demo" else ""
            yield _Field(_SHORT.get(column.benchmark, column.benchmark) + demo, (column,))
        if group and len(members) > 1:
            of = "" if len(members) == _WHOLE[group] else f" of {len(members)}"
            yield _Field(f"Avg{of}, benchmarks", members, (1.0,) * len(members))
            yield _Field(f"Avg{of}, questions", members, tuple(float(column.official) for column in members))


def _difference(field: _Field, row: int, shares: bool) -> str:
    first, other = field.values(0), field.values(row)
    if first is None or other is None:
        return _NONE
    paired, form = (paired_share_interval, _percent) if shares else (paired_mean_interval, amount)
    gain = average_interval([paired(*values) for values in zip(first, other, strict=True)], field.weights)
    # Adding 0.0 takes the sign off -0.0.
    mean, low, high = (("" if value < 0 else "+") + form(value + 0.0) for value in (gain.mean, gain.low, gain.high))
    return f"{mean} [{low}, {high}]"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _cells(sheet: Sheet, escape: Callable[[str], str], bold: str) -> Iterator[list[str]]:
    """The rows, escaped, with the best of every column bold."""
    for row in sheet.rows:
        best = sheet.best or ("",) * len(row)
        yield [bold.format(escape(cell)) if cell == top else escape(cell) for cell, top in zip(row, best, strict=True)]


def _rich(sheet: Sheet) -> RenderableType:
    table = Table(title=Line(visible(sheet.title)), title_justify="left")
    for at, name in enumerate(sheet.header):
        table.add_column(Line(visible(name)), justify="right" if at else "left")
    for row in sheet.rows:
        best = sheet.best or ("",) * len(row)
        table.add_row(
            *(Line(visible(cell), "bold" if cell == top else "") for cell, top in zip(row, best, strict=True))
        )
    return table


def markdown(sheet: Sheet) -> str:
    """A table in Markdown, below its title."""
    lines = [f"**{markdown_text(sheet.title)}**", "", _line(map(markdown_text, sheet.header))]
    lines.append(_line("--:" if at else ":--" for at in range(len(sheet.header))))
    return "\n".join([*lines, *(_line(row) for row in _cells(sheet, markdown_text, "**{}**")), ""])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _latex(sheet: Sheet) -> str:
    columns = "l" + "r" * (len(sheet.header) - 1)
    lines = [f"% {sheet.title}; needs the package booktabs", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(map(_latex_text, sheet.header)) + r" \\", r"\midrule"]
    lines += [" & ".join(row) + r" \\" for row in _cells(sheet, _latex_text, r"\textbf{{{}}}")]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def markdown_text(text: str) -> str:
    """Text of anybody as one line that is no markup."""
    return re.sub(r"([\\`*_{}<>|#])", r"\\\1", " ".join(visible(text).split()))


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"}


def _latex_text(text: str) -> str:
    return re.sub(r"[\\~^–&%$#_{}]", lambda at: _LATEX.get(at[0], "\\" + at[0]), " ".join(visible(text).split()))


def summary_table(summary: Summary, title: str, measured: Measured = SEARCH) -> Table:
    """Every mean with its interval; below them what was counted, and paid for, in all."""
    table = Table(title=Line(visible(title)))
    table.add_column("")
    table.add_column("mean", justify="right")
    table.add_column("95 % interval", justify="right")
    samples, first = max(summary.pass_at, default=1), measured.first.name
    rows = []
    for name, value in summary.means.items():
        if name != "cut" or value.mean:
            of = f" (mean@{samples})" if name == first and samples > 1 else ""
            share = name != "cost" and measured.metric(name).share
            rows.append((name.replace("_", " ") + of, value, percent if share else amount))
    rows += [(f"pass@{k}", value, percent) for k, value in summary.pass_at.items()]
    for name, value, form in rows:
        table.add_row(name, form(value.mean), f"{form(value.low)} to {form(value.high)}")
    if summary.seconds_each is not None:
        table.add_row("seconds, of batches", amount(summary.seconds_each), "")
    scored = f"{counted(summary.questions, measured.task_word)}, {counted(summary.episodes, 'episode')} scored"
    paid = f"{_tokens(summary.prompt_tokens)} prompt and {_tokens(summary.completion_tokens)} completion tokens"
    cost = "" if summary.cost is None else f"\ncost {amount(summary.cost)}"
    table.caption = f"{scored}, {counted(summary.errors, 'error')}\n{paid}{cost}"
    return table


def _tokens(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"
