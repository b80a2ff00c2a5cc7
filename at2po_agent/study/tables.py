"""The tables of a comparison of training runs: scores, differences, areas, costs, and what was equal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import fmean
from typing import Any

import numpy as np

from at2po_agent.judge.results.tables import Sheet
from at2po_agent.study.comparison import TrainingComparison
from at2po_agent.study.curves import Point, table_at
from at2po_agent.study.runs import COSTS, TrainedRun, decisive, flat
from at2po_agent.study.statistics import Compared, Estimate, estimate
from at2po_agent.terminal import amount, counted

_NONE = "–"
_ON_THE_WAY = (0.25, 0.5, 0.75, 1.0)  # parts of the budget
_MOST_STEPS = 8  # columns of a table by step


def sheets(found: TrainingComparison) -> list[Sheet]:
    """Every table of the page."""
    made = [_scores(found)]
    if len(found.variants) > 1:
        made.append(_differences(found))
    made += [_areas(found), _way(found), *_by_step(found), _costs(found), *_settings(found)]
    if found.failed:
        made.append(Sheet("Runs that are not in these numbers", ("run", "why"), tuple(found.failed.items())))
    return made


def notes(found: TrainingComparison) -> list[str]:
    """Notes for the reader, to go below the tables."""
    one = min(len(variant.runs) for variant in found.variants)
    said = [f"NOT LIKE FOR LIKE: {reason}" for reason in found.unlike]
    task = found.measured.task_word
    said.append(
        f"{counted(len(found.questions), task)} of {found.measured.source or 'one set'} that every evaluation scored"
    )
    if one < 2:
        said.append("one seed: these intervals are over questions only, and say nothing of another seed")
    else:
        said.append(f"intervals are over seeds and {task}s, both drawn at random (two-way mixed model, t for seeds)")
    if any(one.adjusted for one in _compared(found) if one):
        said.append(
            "differences: intervals that hold together with 95 % (Bonferroni), p-values adjusted by Holm's procedure"
        )
    for variant, compared in zip(found.variants[1:], _compared(found), strict=True):
        if compared is None:
            said.append(
                f"{variant.name} and {found.variants[0].name} have no seed in common, so no difference is shown"
            )
    said.append("curves and areas end where the cheapest run ends; between evaluations they are straight lines")
    said.append("seconds, also of processors, depend on what else the machine did")
    for run in found.runs:
        last = run.evaluations[-1].step
        if last < run.total.steps:
            said.append(f"{run.path.name}: its last evaluation is after step {last} of {run.total.steps}")
    unknown = [COSTS[name] for name in COSTS if name not in found.axes()]
    if unknown:
        said.append(f"not recorded by every run: {', '.join(unknown)}")
    return said


def _scores(found: TrainingComparison) -> Sheet:
    rows = []
    for variant in found.variants:
        table = found.scores(variant)
        one, by_seed = estimate(table), table.mean(axis=1)
        one = one.within(0.0, 1.0) if found.measured.share else one
        spread = f"{_shown(found, by_seed.min())} to {_shown(found, by_seed.max())}"
        rows.append((variant.name, str(len(variant.runs)), _shown(found, one.mean), _range(found, one), spread))
    title = f"{found.measured.heading} after training{_unit(found)}"
    return Sheet(title, ("", "seeds", "mean", "95 % interval", "seeds from – to"), tuple(rows))


def _compared(found: TrainingComparison) -> list[Compared | None]:
    return found.differences([found.scores(variant) for variant in found.variants])


def _differences(found: TrainingComparison) -> Sheet:
    compared = _compared(found)
    adjusted = any(one.adjusted for one in compared if one)
    rows = []
    for variant, one in zip(found.variants[1:], compared, strict=True):
        if one is None:
            rows.append((variant.name, "0", *[_NONE] * 4))
            continue
        needed = one.estimate.seeds_for(0.01) if found.measured.share else None
        seeds = _NONE if one.estimate.seeds < 2 or not found.measured.share else str(needed or "more questions")
        p = _NONE if one.estimate.seeds < 2 else f"{one.p:.3f}"
        mean = _signed(found, one.estimate.mean)
        interval = one.estimate.within(-1.0, 1.0) if found.measured.share else one.estimate
        rows.append((variant.name, str(one.estimate.seeds), mean, _range(found, interval, True), p, seeds))
    interval_and_p = ("95 % interval, together", "p, Holm") if adjusted else ("95 % interval", "p")
    header = ("", "seeds", "difference", *interval_and_p, "seeds for 1 point")
    return Sheet(f"Difference from {found.variants[0].name}{_unit(found, 'points')}", header, tuple(rows))


def _areas(found: TrainingComparison) -> Sheet:
    """Areas against every cost, and for the first variant's rivals how far they are from its own."""
    columns: list[list[str]] = []
    for axis in found.axes():
        tables = [found.areas(variant, axis) for variant in found.variants]
        cells = [_shown(found, float(table.mean())) for table in tables]
        for at, one in enumerate(found.differences(tables) if len(tables) > 1 else [], start=1):
            if one:
                cells[at] += f" ({_signed(found, one.estimate.mean)}: {_range(found, one.estimate, True)})"
        columns.append(cells)
    header = ("", *(f"over {COSTS[axis]}, to {amount(found.end(axis))}" for axis in found.axes()))
    names = [variant.name for variant in found.variants]
    title = f"Area under the curve: mean {found.measured.title} on the way{_unit(found)}, and difference"
    return Sheet(title, header, tuple(zip(names, *columns, strict=True)))


def _way(found: TrainingComparison) -> Sheet:
    axis = found.axes()[0]
    end = found.end(axis)
    rows = []
    for one in found.curves(axis):
        at = [min(range(len(one.points)), key=lambda i: abs(one.points[i].x - part * end)) for part in _ON_THE_WAY]
        rows.append((one.name, *(f"{_shown(found, one.points[i].mean)} [{_range(found, one.points[i])}]" for i in at)))
    header = ("", *(f"at {amount(part * end)}" for part in _ON_THE_WAY))
    return Sheet(f"{found.measured.heading} on the way, by {COSTS[axis]}{_unit(found)}", header, tuple(rows))


def _by_step(found: TrainingComparison) -> Iterator[Sheet]:
    """Scores after equally many steps, which tell a better step from a cheaper one; nothing without two variants there.

    A cell needs an evaluation of every run of its variant after exactly that step.
    """
    cells: dict[int, dict[str, str]] = {}
    for variant in found.variants:
        runs = list(variant.runs.values())
        by_step = [{scores.step: scores for scores in run.evaluations} for run in runs]
        for step in sorted(set.intersection(*map(set, by_step)) - {0}):
            one = estimate(np.stack([table_at(scores[step], found.questions) for scores in by_step]))
            one = one.within(0.0, 1.0) if found.measured.share else one
            cells.setdefault(step, {})[variant.name] = f"{_shown(found, one.mean)} [{_range(found, one)}]"
    steps = sorted(step for step, by_variant in cells.items() if len(by_variant) > 1)
    if steps:
        # The last one, and as many before it as there is room for, evenly spread.
        steps = sorted(set(steps[:: -max(1, -(-len(steps) // _MOST_STEPS))]))
        rows = [(variant.name, *(cells[step].get(variant.name, _NONE) for step in steps)) for variant in found.variants]
        header = ("", *(f"step {step}" for step in steps))
        yield Sheet(f"{found.measured.heading} after equally many steps{_unit(found)}", header, tuple(rows))


def _costs(found: TrainingComparison) -> Sheet:
    axes = found.axes()
    rows = []
    for variant in found.variants:
        runs = list(variant.runs.values())
        spent = [f"{fmean(run.total.steps for run in runs):.1f}"]
        spent += [amount(fmean(getattr(run.total, axis) for run in runs)) for axis in axes]
        seconds = sum(run.total.seconds for run in runs)
        rate = amount(sum(run.total.tokens for run in runs) / seconds) if seconds else _NONE
        rows.append((variant.name, *spent, rate))
    header = ("", "steps", *(COSTS[axis] for axis in axes), "tokens/s")
    return Sheet("Cost of a run, mean over its seeds", header, tuple(rows))


def _settings(found: TrainingComparison) -> Iterator[Sheet]:
    """Settings and data that differ between variants, with the value of each; and those that are the same for all."""
    of_variant = [[_described(run) for run in variant.runs.values()] for variant in found.variants]
    keys = list(dict.fromkeys(key for runs in of_variant for described in runs for key in described))
    values = {key: [_together(described.get(key, _NONE) for described in runs) for runs in of_variant] for key in keys}
    unequal = tuple((key, *values[key]) for key in keys if len(set(values[key])) > 1)
    header = ("", *(variant.name for variant in found.variants))
    if unequal:
        yield Sheet("Not equal", header, unequal)
    equal = tuple((key, values[key][0]) for key in keys if len(set(values[key])) == 1)
    seeds = {variant.name: tuple(sorted(variant.runs)) for variant in found.variants}
    if len(set(seeds.values())) > 1:
        yield Sheet("Seeds", ("", "seeds"), tuple((name, ", ".join(map(str, row))) for name, row in seeds.items()))
    else:
        equal = (("seeds", ", ".join(map(str, next(iter(seeds.values()))))), *equal)
    yield Sheet("Equal", ("", "of every variant"), equal)


def _together(values: Iterable[Any]) -> str:
    """A value of all runs of a variant; several where they differ."""
    return " / ".join(dict.fromkeys(map(str, values)))


_SESSION = ("env", "eval_env", "policy", "machine", "packages", "python", "git")


def _described(run: TrainedRun) -> dict[str, Any]:
    """Settings, data, index, versions and code of a run; what is only said of one of its sessions is left out."""
    found = dict(decisive(run.config))
    for part in _SESSION:
        found |= dict(flat(part, run.session.get(part)))
    shown = {
        key: f"{len(value)} entries" if isinstance(value, list) and len(value) > 8 else value
        for key, value in found.items()
    }
    return {key: value for key, value in shown.items() if value not in (None, {}, [])}


def _shown(found: TrainingComparison, value: float) -> str:
    return f"{100 * value:.1f}" if found.measured.share else amount(value)


def _signed(found: TrainingComparison, value: float) -> str:
    # Adding 0.0 takes the sign off -0.0.
    return ("" if value < 0 else "+") + _shown(found, value + 0.0)


def _range(found: TrainingComparison, one: Estimate | Point, signed: bool = False) -> str:
    form = _signed if signed else _shown
    return f"{form(found, one.low)} to {form(found, one.high)}"


def _unit(found: TrainingComparison, word: str = "%") -> str:
    return f", {word}" if found.measured.share else ""
