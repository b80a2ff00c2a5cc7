"""The final table of a run: its metric before and after on the same tasks, with the paired interval."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text as Line

from at2po_agent.training.display import clock
from at2po_agent.training.metrics import Result, Scores


def summary(result: Result) -> RenderableType:
    """The metric before and after over all tasks and by group, and what training cost."""
    parts: list[RenderableType] = []
    if result.before and result.after:
        parts.append(_table(result.before, result.after))
    parts += [Line(f"with an accepted change of {change}") for change in result.accepted]
    spent = f"{clock(result.seconds)} of training, {result.trees:,} trees, {result.generated_tokens:,} generated tokens"
    parts.append(Line(f"{result.steps} steps, {spent}"))
    if result.dropped:
        parts.append(Line(f"{result.dropped:,} trees were dropped: they had fewer than two scored leaves"))
    if result.checkpoint:
        parts.append(Line(f"checkpoint: {result.checkpoint}"))
    return Group(*parts)


def _table(before: Scores, after: Scores) -> Table:
    """One row for all tasks that both evaluations scored, then one per group."""
    first = dict(zip(before.ids, before.values, strict=True))
    last = dict(zip(after.ids, after.values, strict=True))
    group = dict(zip(before.ids, before.groups, strict=True))
    ids = [id for id in before.ids if id in last]
    tasks = f"{after.task_word}s"
    table = Table(title=f"{after.heading} on {len(ids)} unseen {tasks}{_of(before)}, greedy", title_justify="left")
    gain = "gain, points" if after.share else "gain"
    table.add_column(tasks, no_wrap=True)
    for name in ("n", "before", "after", gain, "95 % paired interval"):
        table.add_column(name, justify="right", no_wrap=True)
    if ids:
        table.add_row("all", *_cells(after, [first[id] for id in ids], [last[id] for id in ids]))
    names = sorted({group[id] for id in ids})
    for name in names if len(names) > 1 else []:
        members = [id for id in ids if group[id] == name]
        table.add_row(name or "other", *_cells(after, [first[id] for id in members], [last[id] for id in members]))
    unpaired = len(set(first) ^ set(last))
    if unpaired:
        table.caption = f"{unpaired} {tasks} were scored only once (search, tools or engine failed) and are left out"
    return table


def _of(scores: Scores) -> str:
    return f" of {scores.source}" if scores.source else ""


def _cells(scores: Scores, before: Sequence[float], after: Sequence[float]) -> list[str]:
    gain = scores.gain(before, after)
    means = [str(gain.n), scores.shown(fmean(before)), scores.shown(fmean(after))]
    if not scores.share:
        return [*means, f"{gain.mean:+.4g}", f"{gain.low:+.4g} to {gain.high:+.4g}"]
    return [*means, f"{100 * gain.mean:+.1f}", f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}"]
