"""The page of evaluations with ``--tree``: tables and curves of exact match against generated tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from at2po_agent.intervals import Interval, paired_share_interval
from at2po_agent.judge.results.stored import facts
from at2po_agent.judge.results.tables import Sheet
from at2po_agent.judge.view.page import Heading
from at2po_agent.study.black_box import TreeEvaluation, Way, family_level, score, tree_differences
from at2po_agent.study.page import Report
from at2po_agent.study.statistics import FAMILY
from at2po_agent.terminal import amount, counted

_NONE = "–"


def tree_report(evaluations: Sequence[TreeEvaluation]) -> Report:
    """Evaluations with trees as a page."""
    word = evaluations[0].run.measured.task_word
    described = [
        (f"{_name(one)} · {name}", value) for one in evaluations for name, value in facts(dict(one.run.manifest))
    ]
    subtitle = ", ".join(f"{_name(one)} ({counted(one.questions, word)})" for one in evaluations)
    demo = any(one.run.demo for one in evaluations)
    heading = Heading("Trees beside chains at test time", subtitle, demo, described)
    return Report(
        heading,
        [_differences(evaluations), _evaluations(evaluations), *map(_ways, evaluations), *_settings(evaluations)],
        [_chart(one) for one in evaluations],
        list(notes(evaluations)),
    )


def notes(evaluations: Sequence[TreeEvaluation]) -> Iterator[str]:
    """Notes for the reader, to go below the tables."""
    word = evaluations[0].run.measured.task_word
    yield (
        f"intervals are of 95 % over {word}s; differences are paired by {word}, on the same {word}s and with the same "
        "sampled chains"
    )
    if len(tree_differences(evaluations)) >= FAMILY:
        yield "trees less chains: intervals that hold together with 95 % (Bonferroni)"
    yield (
        "n chains: the mean over all disjoint groups of n among the chains that each tree began with; several paths "
        "answer by majority, ties by mean log-probability, and a path without an answer has no vote"
    )
    yield (
        f"chains at the tokens of a tree: as many of a {word}'s chains as its own tree's tokens pay for, so that they "
        "take at most as many"
    )
    yield f"oracle: the share of {word}s for which some path is right; no vote can be better"
    yield f"tokens are generated ones a {word}, as each model counts them; turns that paths share count once"
    for one in evaluations:
        if one.errors:
            yield f"{_name(one)}: {counted(one.errors, word)} without a whole tree are not counted"
        if left := one.asked - one.questions - one.errors:
            yield f"{_name(one)}: {left} of {counted(one.asked, word)} are not evaluated yet"


def _name(one: TreeEvaluation) -> str:
    return one.run.model


def _differences(evaluations: Sequence[TreeEvaluation]) -> Sheet:
    rows = [
        (
            _name(found.of),
            found.way.name,
            found.other.name,
            f"{found.way.paths:.0f} / {found.other.paths:.1f}",
            f"{found.way.tokens:.0f} / {found.other.tokens:.0f}",
            _points(found.em),
            _NONE if found.other in found.of.ways.others else _points(found.oracle),
        )
        for found in tree_differences(evaluations)
    ]
    header = ("", "", "less", "paths", "tokens", "exact match", "oracle")
    return Sheet("Trees less chains, points", header, tuple(rows))


def _evaluations(evaluations: Sequence[TreeEvaluation]) -> Sheet:
    rows = []
    for one in evaluations:
        run, shape = one.run, one.shape
        sampling = run.manifest.get("sampling", {})
        grown = f"{shape.chains} chains, {counted(shape.rounds, 'round')} of {shape.per_round}, α {shape.alpha:g}"
        temperature = sampling.get("temperature")
        rows.append(
            (
                _name(one),
                f"{run.benchmark} {run.split}",
                f"{one.questions:,} of {one.asked:,}",
                grown,
                _NONE if temperature is None else f"{temperature:g}",
                str(sampling.get("seed", _NONE)),
            )
        )
    word = evaluations[0].run.measured.task_word
    header = ("", "environment", f"{word}s", "tree", "temperature", "seed")
    return Sheet("Evaluations", header, tuple(rows))


_NOT_SETTINGS = ("model", "questions", "samples", "price", "code", "created", "search_at", "tree")


def _settings(evaluations: Sequence[TreeEvaluation]) -> Iterator[Sheet]:
    """What was not the same for all evaluations, so that no model is compared with another by these numbers."""
    described = [
        dict(facts({key: value for key, value in one.run.manifest.items() if key not in _NOT_SETTINGS}))
        for one in evaluations
    ]
    keys = dict.fromkeys(key for values in described for key in values)
    rows = [(key, *(values.get(key, _NONE) for values in described)) for key in keys]
    if unequal := tuple(row for row in rows if len(set(row[1:])) > 1):
        yield Sheet("Not equal", ("", *map(_name, evaluations)), unequal)


def _ways(one: TreeEvaluation) -> Sheet:
    """Every way in the order of its tokens, with its paired difference from one chain."""
    ways = one.ways
    single, *others = ways.chains
    rows = [_row(single, _NONE)]
    for way in sorted([*others, *ways.matched, *ways.trees, *ways.others], key=lambda way: way.tokens):
        rows.append(_row(way, _points(paired_share_interval(single.em, way.em, level=_level(one)))))
    together = "95 %, together" if _level(one) != family_level(1) else "95 %"
    header = (
        "",
        "paths",
        "tokens",
        "exact match, %",
        "95 % interval",
        f"from one chain, points [{together}]",
        "oracle, %",
    )
    word = one.run.measured.task_word
    return Sheet(f"{_name(one)}: exact match against generated tokens a {word}", header, tuple(rows))


def _level(one: TreeEvaluation) -> float:
    ways = one.ways
    return family_level(len(ways.chains) - 1 + 2 * len(ways.trees) + len(ways.others))


def _row(way: Way, difference: str) -> tuple[str, ...]:
    found = score(way)
    interval = f"{100 * found.low:.1f} to {100 * found.high:.1f}"
    oracle = f"{100 * sum(way.oracle) / len(way.oracle):.1f}"
    return way.name, f"{way.paths:.1f}", amount(way.tokens), f"{100 * found.mean:.1f}", interval, difference, oracle


def _points(one: Interval) -> str:
    # Adding 0.0 takes the sign off -0.0.
    mean, low, high = (f"{round(100 * value, 1) + 0.0:+.1f}" for value in (one.mean, one.low, one.high))
    return f"{mean} [{low}, {high}]"


def _chart(one: TreeEvaluation) -> dict[str, Any]:
    """Chains and trees with their bands, and the oracles of both; a tree begins with all of its chains."""
    ways = one.ways
    chains = sorted([*ways.chains, *ways.matched], key=lambda way: way.tokens)
    trees = [ways.chains[-1], *ways.trees]
    series = [
        {"name": "majority of chains", "points": list(map(_point, chains))},
        {"name": "majority of a tree", "points": list(map(_point, trees))},
        {"name": "best chain (oracle)", "points": [[way.tokens, sum(way.oracle) / len(way.oracle)] for way in chains]},
        {"name": "best leaf (oracle)", "points": [[way.tokens, sum(way.oracle) / len(way.oracle)] for way in trees]},
        *({"name": way.name, "points": [_point(way)]} for way in ways.others),
    ]
    word = one.run.measured.task_word
    label = f"{_name(one)}, {one.run.benchmark} {one.run.split}: exact match"
    return {"label": label, "x": f"generated tokens a {word}", "share": True, "series": series}


def _point(way: Way) -> list[float]:
    found = score(way)
    return [way.tokens, found.mean, found.low, found.high]
