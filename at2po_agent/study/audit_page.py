"""Tables and curves of an audit: bias, rank correlation and calibration of credit, and where forks pay."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from at2po_agent.atomic_files import plain_json, write_text
from at2po_agent.intervals import mean_interval
from at2po_agent.judge.results.tables import Sheet
from at2po_agent.judge.view.page import Heading
from at2po_agent.study.audit import ADVANTAGES, VALUES, Audit, AuditedTurn, to_json
from at2po_agent.study.page import Report

_NONE = "–"
_LEAVES = ((1, 1), (2, 3), (4, 7), (8, 10**9))
_BINS = 8
_DRAWS = 200  # of random picks
_FEWEST = 4  # trees that an interval is drawn over

Predictor = Callable[[AuditedTurn], float]
PREDICTORS: Mapping[str, Predictor] = {
    "entropy H(n)": lambda turn: turn.entropy,
    "most leaves": lambda turn: turn.leaves,
}
"""What may say where a fork pays, beside a random choice."""


def write_audit(folder: Path, found: Audit, commands: Sequence[str] = ()) -> None:
    """Write ``audit.json``, ``audit.html`` and ``audit.md`` into a folder, the last with the commands that made it.

    Raises:
        DiskError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "audit.json", json.dumps(plain_json(to_json(found)), indent=1) + "\n")
    subtitle = f"trees of step {found.step}, {found.forks} fresh rollouts a turn"
    heading = Heading(f"Audit of {found.run}", subtitle, False, ())
    report = Report(heading, sheets(found), [_calibration(found), _paying(found)], notes(found))
    report.write_html(folder / "audit.html", "audit")
    report.write_markdown(folder / "audit.md", commands)


def notes(found: Audit) -> list[str]:
    """Notes for the reader, to go below the tables."""
    signal = [turn for turn in found.turns if turn.signal]
    trees = len({turn.tree for turn in signal})
    error = fmean(turn.error for turn in found.turns) if found.turns else 0.0
    return [
        f"{len(signal):,} inner turns of {trees} trees whose rewards differ ({found.trees} looked at): values and "
        "advantages are of these; where forks pay is of all",
        f"a fresh mean has a standard error of {error:.3f} rewards on average: no estimate can agree better than that",
        "intervals are over trees, by bootstrap",
    ]


def sheets(found: Audit) -> list[Sheet]:
    """Every table of an audit."""
    turns = [turn for turn in found.turns if turn.signal]
    return [
        _values(turns),
        _advantages(turns),
        _by("depth", turns, [(str(depth), [t for t in turns if t.depth == depth]) for depth in _depths(turns)]),
        _by("leaves under the turn", turns, list(_by_leaves(turns))),
        _where(found),
    ]


def _depths(turns: Sequence[AuditedTurn]) -> list[int]:
    return sorted({turn.depth for turn in turns})


def _by_leaves(turns: Sequence[AuditedTurn]) -> Iterator[tuple[str, list[AuditedTurn]]]:
    for low, high in _LEAVES:
        name = str(low) if low == high else f"{low} or more" if high >= 10**9 else f"{low} to {high}"
        yield name, [turn for turn in turns if low <= turn.leaves <= high]


def _values(turns: Sequence[AuditedTurn]) -> Sheet:
    rows = []
    for form in VALUES:
        pairs = [(turn.values[form], turn.true) for turn in turns]
        rows.append((form, str(len(turns)), _bias(turns, _gap(form)), *_agreement(pairs)))
    title = "V(n) against fresh rollouts, in standard deviations of the tree's rewards"
    return Sheet(title, ("", "turns", "bias [95 %]", "rank correlation", "root mean square error"), tuple(rows))


def _advantages(turns: Sequence[AuditedTurn]) -> Sheet:
    rows = []
    for form in ADVANTAGES:
        for value in VALUES:
            pairs = [(turn.advantage(value, form), turn.true_advantage(form)) for turn in turns]
            same = fmean(np.sign(a) == np.sign(b) for a, b in pairs) if pairs else 0.0
            bias = _bias(turns, _advantage_gap(value, form))
            rows.append((f"{form}, {value}", bias, *_agreement(pairs), f"{same:.1%}" if pairs else _NONE))
    title = "A(n) against fresh rollouts, likewise"
    header = ("", "bias [95 %]", "rank correlation", "root mean square error", "same sign")
    return Sheet(title, header, tuple(rows))


def _gap(form: str) -> Predictor:
    return lambda turn: turn.values[form] - turn.true


def _advantage_gap(value: str, form: str) -> Predictor:
    return lambda turn: turn.advantage(value, form) - turn.true_advantage(form)


def _by(what: str, turns: Sequence[AuditedTurn], groups: Sequence[tuple[str, list[AuditedTurn]]]) -> Sheet:
    """Bias and rank correlation of every value form in parts of the turns."""
    rows = []
    for name, members in groups:
        if not members:
            continue
        cells = []
        for form in VALUES:
            correlation, _ = _agreement([(turn.values[form], turn.true) for turn in members])
            cells.append(f"{_bias(members, _gap(form))}, {correlation}")
        rows.append((name, str(len(members)), *cells))
    return Sheet(f"V(n) by {what}: bias [95 %], rank correlation", (what, "turns", *VALUES), tuple(rows))


def _where(found: Audit) -> Sheet:
    """The share of forks at the picked turns that end with another reward than the path they leave."""
    k, rng = found.per_round, np.random.default_rng(0)
    trees = _trees(found.turns)
    random = [fmean(turn.changed for turn in members) for members in trees]
    rows = []
    for name, of in PREDICTORS.items():
        picked = [_picked(members, of, k) for members in trees]
        gain = _interval([a - b for a, b in zip(picked, random, strict=True)], percent=True)
        rows.append((name, _within(trees, of), _percent(picked), gain))
    drawn = [fmean(_picked(members, lambda turn: rng.random(), k) for _ in range(_DRAWS)) for members in trees]
    rows.append(("random", "0.00", _percent(drawn), _NONE))
    best = [_picked(members, lambda turn: turn.changed, k) for members in trees]
    rows.append(("the best in hindsight", "1.00", _percent(best), _NONE))
    title = f"Where a fork changes the outcome: the {k} turns of a tree that each would pick"
    header = ("", "rank correlation in a tree", "outcome changed", "more than random, points [95 %]")
    return Sheet(title, header, tuple(rows))


def _within(trees: Sequence[Sequence[AuditedTurn]], of: Predictor) -> str:
    """The mean over trees of the rank correlation with changed outcomes: the turns of one tree compete."""
    found = [spearman([of(turn) for turn in members], [turn.changed for turn in members]) for members in trees]
    known = [one for one in found if one is not None]
    return f"{fmean(known):.2f}" if known else _NONE


def _picked(members: Sequence[AuditedTurn], of: Predictor, k: int) -> float:
    return fmean(turn.changed for turn in sorted(members, key=lambda turn: -of(turn))[:k])


def _trees(turns: Sequence[AuditedTurn]) -> list[list[AuditedTurn]]:
    by_tree: dict[int, list[AuditedTurn]] = {}
    for turn in turns:
        by_tree.setdefault(turn.tree, []).append(turn)
    return list(by_tree.values())


def _bias(turns: Sequence[AuditedTurn], of: Predictor) -> str:
    """The mean over trees of each tree's mean, with an interval over trees."""
    return _interval([fmean(of(turn) for turn in members) for members in _trees(turns)])


def _interval(values: Sequence[float], percent: bool = False) -> str:
    if not values:
        return _NONE
    if len(values) < _FEWEST:
        return f"{fmean(values) * (100 if percent else 1):+.{1 if percent else 2}f}"
    one, scale, digits = mean_interval(values, resamples=2000), 100 if percent else 1, 1 if percent else 2
    mean, low, high = (f"{scale * value:+.{digits}f}" for value in (one.mean, one.low, one.high))
    return f"{mean} [{low}, {high}]"


def _percent(values: Sequence[float]) -> str:
    return f"{fmean(values):.1%}" if values else _NONE


def _agreement(pairs: Sequence[tuple[float, float]]) -> tuple[str, str]:
    """Spearman's rank correlation and the root mean square error."""
    if not pairs:
        return _NONE, _NONE
    first, second = np.array(pairs).T
    error = f"{float(np.sqrt(((first - second) ** 2).mean())):.2f}"
    correlation = spearman(first, second)
    return _NONE if correlation is None else f"{correlation:.2f}", error


def spearman(first: Any, second: Any) -> float | None:
    """Spearman's rank correlation, with mean ranks for ties; None where one of the two never varies."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (first, second)]
    if any(np.ptp(values) == 0 for values in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _calibration(found: Audit) -> dict[str, Any]:
    """The mean of fresh rollouts where a value form said so much."""
    turns = [turn for turn in found.turns if turn.signal]
    by_form = {form: _binned([(turn.values[form], turn.true) for turn in turns]) for form in VALUES}
    places = sorted({point[0] for points in by_form.values() for point in points})
    by_form["as it should be"] = [[x, x] for x in places or (0.0, 1.0)]
    series = [{"name": name, "points": points} for name, points in by_form.items() if points]
    return {
        "label": "Fresh rollouts, where V(n) is",
        "x": "V(n), standard deviations",
        "share": False,
        "series": series,
    }


def _paying(found: Audit) -> dict[str, Any]:
    points = _binned([(turn.entropy, turn.changed) for turn in found.turns]) or [[0.0, 0.0]]
    series = [{"name": "outcome changed", "points": points}]
    return {
        "label": "Forks that change the outcome",
        "x": "entropy H(n), nats a token",
        "share": True,
        "series": series,
    }


def _binned(pairs: Sequence[tuple[float, float]]) -> list[list[float]]:
    """[x, mean, low, high] of ``_BINS`` parts with as many pairs each; the interval is two standard errors wide."""
    points = []
    for part in np.array_split(np.array(sorted(pairs)).reshape(-1, 2), _BINS):
        if len(part) > 1:
            x, y = part.mean(axis=0)
            margin = 2 * part[:, 1].std(ddof=1) / len(part) ** 0.5
            points.append([float(x), float(y), float(y - margin), float(y + margin)])
    return points
