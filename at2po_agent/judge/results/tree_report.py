"""Report a black-box tree evaluation: a table, the curve of the first metric against tokens, and files of both."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table
from rich.text import Text as Line
from typing_extensions import TypedDict

from at2po_agent.atomic_files import write_text
from at2po_agent.intervals import Interval, paired_share_interval, share_interval
from at2po_agent.judge.config import JudgeConfig
from at2po_agent.judge.display import EvaluationDisplay
from at2po_agent.judge.episodes.records import EpisodeRecord
from at2po_agent.judge.measured import Measured
from at2po_agent.judge.resolve import label
from at2po_agent.judge.results.diagnosis import diagnosis
from at2po_agent.judge.results.directory import JudgeDirectory, read_manifest
from at2po_agent.judge.results.metrics import SEARCH, Prices, summarise
from at2po_agent.judge.tree.search import sampled
from at2po_agent.judge.tree.voting import METHODS, Sampled, budgets, curve, exact_match_at
from at2po_agent.method.expansion import EntropyGuided
from at2po_agent.terminal import visible
from at2po_agent.training.stored_files import Count, Number

TREE, CURVE = "tree.json", "curve.svg"
BASELINE = "majority of chains"
_COLOURS = ("#7f7f7f", "#1f77b4", "#d62728", "#9ecae1", "#fcae91")  # as METHODS; the oracles are pale
_MARKS = "1cloO"


class _Interval(TypedDict):
    mean: Number
    low: Number
    high: Number
    n: Count


class _Method(TypedDict):
    em: _Interval
    against_chains: _Interval
    tokens: Number
    paths: Number


class StoredTree(TypedDict):
    """A stored ``tree.json``: a ``TreeResult``."""

    questions: Count
    errors: Count
    budget: Number
    methods: dict[str, _Method]
    at: list[Number]
    curve: dict[str, list[Number]]


@dataclass(frozen=True)
class MethodResult:
    """One way to answer, at the tokens that the trees took."""

    em: Interval
    against_chains: Interval  # paired difference to the majority of chains
    tokens: float  # generated, mean per question, of the paths that were used
    paths: float  # mean per question


@dataclass(frozen=True)
class TreeResult:
    """A finished tree evaluation."""

    questions: int
    errors: int  # questions without a whole tree, never counted as 0
    budget: float  # generated tokens of a tree, mean per question
    methods: Mapping[str, MethodResult]
    at: tuple[int, ...]  # budgets of the curve, generated tokens of one question
    curve: Mapping[str, Sequence[float]]  # [method][len(at)] mean exact match

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)


def tree_result(questions: Sequence[Sampled], errors: int) -> TreeResult:
    """Every method on the same questions at the same budgets.

    Raises:
        ValueError: there is no question.
    """
    em = {name: [exact_match_at(name, one) for one in questions] for name in METHODS}
    used = {name: [method.paths(one) for one in questions] for name, method in METHODS.items()}
    at = budgets(questions)
    return TreeResult(
        questions=len(questions),
        errors=errors,
        budget=fmean(one.budget for one in questions),
        methods={
            name: MethodResult(
                em=share_interval(em[name]),
                against_chains=paired_share_interval(em[BASELINE], em[name]),
                tokens=fmean(sum(path.tokens for path in paths) for paths in used[name]),
                paths=fmean(map(len, used[name])),
            )
            for name in METHODS
        },
        at=tuple(at),
        curve=curve(questions, at),
    )


def table(result: TreeResult, title: str, measured: Measured = SEARCH) -> Table:
    """The first metric of every method at equal generated tokens."""
    shown = Table(title=Line(visible(title)))
    shown.add_column("at equal tokens", no_wrap=True)
    for heading in (str(measured.first), "95 % interval", "to chains", "paths", "tokens"):
        shown.add_column(heading, justify="right")
    for name, found in result.methods.items():
        em, difference = found.em, found.against_chains
        paired = "" if name == BASELINE else f"{100 * difference.mean:+.1f} [{_points(difference)}]"
        shown.add_row(
            name,
            f"{em.mean:.1%}",
            f"{em.low:.1%} to {em.high:.1%}",
            paired,
            f"{found.paths:.1f}",
            f"{found.tokens:,.0f}",
        )
    word = measured.task_word
    shown.caption = (
        f"{result.questions:,} {word}s, {result.errors} errors; a tree took {result.budget:,.0f} generated tokens a "
        f"{word}, which bound every method; intervals over {word}s, differences paired"
    )
    return shown


def _points(interval: Interval) -> str:
    return f"{100 * interval.low:+.1f}, {100 * interval.high:+.1f}"


def plot(result: TreeResult, measured: Measured = SEARCH, width: int = 64, height: int = 12) -> str:
    """The curve in characters: the first metric against generated tokens of a task."""
    low, high = result.at[0], result.at[-1]
    top = max(max(values) for values in result.curve.values()) or 1.0
    grid = [[" "] * width for _ in range(height)]
    for mark, values in zip(_MARKS, result.curve.values(), strict=True):
        for budget, em in zip(result.at, values, strict=True):
            column = round((budget - low) / max(high - low, 1) * (width - 1))
            grid[height - 1 - round(em / top * (height - 1))][column] = mark
    labels = [f"{top * (height - 1 - row) / (height - 1):6.1%} │" for row in range(height)]
    rows = [label + "".join(cells).rstrip() for label, cells in zip(labels, grid, strict=True)]
    ends = f"{low:,}".ljust(width - len(f"{high:,}")) + f"{high:,}"
    legend = "   ".join(f"{mark} {name}" for mark, name in zip(_MARKS, result.curve, strict=True))
    below = f"generated tokens a {measured.task_word}"
    return "\n".join([*rows, " " * 7 + "└" + "─" * width, " " * 8 + ends, " " * 8 + below, legend])


def svg(result: TreeResult, title: str, measured: Measured = SEARCH) -> str:
    """The curve as a drawing."""
    width, height, left, bottom, above = 720, 420, 64, 56, 36
    low, high = result.at[0], result.at[-1]
    top = max(max(values) for values in result.curve.values()) or 1.0

    def x(budget: float) -> float:
        return left + (budget - low) / max(high - low, 1) * (width - left - 190)

    def y(em: float) -> float:
        return above + (1 - em / top) * (height - above - bottom)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{left}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for step in range(5):
        em, budget = top * step / 4, low + (high - low) * step / 4
        parts.append(f'<path d="M{left} {y(em):.1f}H{width - 190}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y(em) + 4:.1f}" text-anchor="end">{em:.1%}</text>')
        parts.append(f'<text x="{x(budget):.1f}" y="{height - 34}" text-anchor="middle">{budget:,.0f}</text>')
    parts.append(f'<text x="{x((low + high) / 2):.1f}" y="{height - 12}" text-anchor="middle">')
    parts.append(f"generated tokens a {measured.task_word} ({escape(measured.first.heading)} upwards)</text>")
    for number, (colour, (name, values)) in enumerate(zip(_COLOURS, result.curve.items(), strict=True)):
        points = " ".join(f"{x(budget):.1f},{y(em):.1f}" for budget, em in zip(result.at, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        row = above + 12 + 20 * number
        parts.append(f'<path d="M{width - 178} {row - 4}h18" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{width - 154}" y="{row}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def write_tree(path: Path, records: Sequence[EpisodeRecord], shape: EntropyGuided) -> TreeResult | None:
    """Write ``tree.json`` and ``curve.svg`` into a run; None, and nothing, where no task has a whole tree."""
    whole = sampled(records, shape)
    if not whole:
        return None
    result = tree_result(list(whole.values()), len({record.question_id for record in records} - set(whole)))
    manifest = read_manifest(path)
    of = {"env": manifest.get("env"), "split": manifest.get("dataset", {}).get("split")}
    write_text(path / TREE, json.dumps(of | result.to_json(), indent=1) + "\n")
    title = f"{of['env']} {of['split']}: {manifest.get('model', {}).get('name')}"
    write_text(path / CURVE, svg(result, title, Measured.stored(manifest)))
    return result


def conclude_tree(
    config: JudgeConfig, directory: JudgeDirectory, display: EvaluationDisplay, measured: Measured
) -> int:
    """Write ``summary.json``, ``tree.json`` and ``curve.svg``, and print table and curve.

    The summary has means of the chains that each tree began with, and the tokens and cost of all paths.

    Returns:
        The exit status: 1 where a question ended in an error.
    """
    records = directory.records()
    prices = Prices.known(config.model.price_prompt, config.model.price_completion)
    batched = config.model.base_url is None
    directory.finish(summarise(records, prices, measured=measured, chains=config.expansion.chains, batched=batched))
    env, split, model = config.envs[0], str(config.split), label(config.model)
    result = write_tree(directory.path, records, config.expansion)
    if result:
        display.console.print(table(result, f"{env} {split}: {model}", measured))
        display.note(plot(result, measured))
    display.say_cut(records, config.limits)
    if fault := diagnosis(records, config, directory.path):
        display.note(fault)
    errors = result.errors if result else len({record.question_id for record in records})
    if errors:
        display.note(
            f"{errors} {measured.task_word}s have no whole tree and are not scored; try them again with: "
            f"at2po-agent eval --resume {directory.path}"
        )
    return 1 if errors else 0
