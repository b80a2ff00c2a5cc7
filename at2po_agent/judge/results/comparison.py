"""Several evaluations side by side: one row per model, one column per benchmark, over the questions that all scored.

A number is only compared with numbers of the same questions, and a difference is taken question by question. Runs that
asked, searched, showed or scored differently measure different things: their comparison is refused with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from at2po_agent.judge.measured import Measure, Measured
from at2po_agent.judge.results.manifest import changes
from at2po_agent.judge.results.metrics import SEARCH, by_question, question_means
from at2po_agent.judge.results.stored import Finished
from at2po_agent.settings import ConfigError
from at2po_env.registration import BENCHMARKS, GENERATED, BenchmarkEntry

GROUPS = ("multi-hop", "single-hop")  # each has two averages: over its benchmarks, and over their questions


@dataclass(frozen=True)
class Column:
    """One benchmark."""

    benchmark: str  # HotpotQA
    split: str
    group: str  # of GROUPS; "" for a task of one's own or a generated world: it counts in no average
    values: tuple[Sequence[float] | None, ...]  # [row][question]; None where a row's model was not evaluated on it
    errors: int  # questions left out because infrastructure ended them in some run
    missing: int  # questions left out because some run did not ask them, or not yet
    official: int = 0  # questions of the whole set: its weight in the average over questions


@dataclass(frozen=True)
class Comparison:
    """The evaluations of a comparison table, and their paired differences."""

    measure: str
    rows: tuple[str, ...]  # models; the first one is what the others are compared with
    columns: tuple[Column, ...]  # in the paper's order
    unlike: tuple[str, ...]  # why it should not have been compared, where it was asked for anyway
    again: Mapping[str, Sequence[str]] = field(default_factory=dict)  # run directories of rows of the same model
    measured: Measured = SEARCH  # that the measure is one of


def compare(runs: Sequence[Finished], measure: str | None = None, *, anyway: bool = False) -> Comparison:
    """Put runs side by side.

    Args:
        runs: a model's first run on a benchmark is in its row; one more of the same model and benchmark in a row of its
            own. Rows are in the order in which models first appear.
        measure: a name of ``measured.MEASURES`` or of a metric of the tasks; None: the first metric of the first run.
        anyway: compare also what differs in what matters, and say so.

    Raises:
        ConfigError: runs differ in what matters, a column has no common question, or a run no scored episode.
    """
    measured = runs[0].measured
    measure = measured.first.name if measure is None else measure
    if measure not in measured.measures:
        raise ConfigError(f"--metric: there is no {measure!r}; there are {', '.join(measured.measures)}")
    rows: dict[str, dict[str, Finished]] = {}
    for run in runs:
        rows.setdefault(_row(rows, run), {})[run.benchmark] = run
    columns, unlike = [], []
    for benchmark in sorted({run.benchmark: None for run in runs}, key=_place):
        members = [row.get(benchmark) for row in rows.values()]
        unlike += _unlike([run for run in members if run])
        columns.append((benchmark, members))
    if unlike and not anyway:
        raise ConfigError(
            "these runs do not measure the same: " + "; ".join(unlike) + ". --anyway compares them and notes it"
        )
    made = [_column(benchmark, members, measure, measured.measures[measure]) for benchmark, members in columns]
    models = Counter(run.model for members in rows.values() for run in list(members.values())[:1])
    again = {
        name: [run.path.name for run in members.values()]
        for name, members in rows.items()
        if models[next(iter(members.values())).model] > 1
    }
    return Comparison(measure, tuple(rows), tuple(made), tuple(unlike), again, measured)


def _row(rows: Mapping[str, Mapping[str, Finished]], run: Finished) -> str:
    name, number = run.model, 1
    while run.benchmark in rows.get(name, ()):
        number += 1
        name = f"{run.model} #{number}"
    return name


def _place(benchmark: str) -> tuple[int, int]:
    """Multi-hop before single-hop before others, inside a group as registered."""
    names = [entry.id.removeprefix("AT2PO-").removesuffix("-v0") for entry in BENCHMARKS.values()]
    group = group_of(benchmark)
    at = names.index(benchmark) if benchmark in names else len(names)
    return (GROUPS.index(group) if group else len(GROUPS)), at


def group_of(benchmark: str) -> str:
    """In which averages a benchmark counts; "" for none."""
    entry = _entry(benchmark)
    return "" if entry is None or GENERATED in entry.groups else entry.groups[0]


def _entry(benchmark: str) -> BenchmarkEntry | None:
    return next((entry for entry in BENCHMARKS.values() if entry.id == f"AT2PO-{benchmark}-v0"), None)


def _unlike(runs: Sequence[Finished]) -> list[str]:
    """Settings besides the model in which runs on one benchmark differ from the first of them."""
    first = runs[0]
    return [
        f"{first.benchmark}: {run.path.name} differs from {first.path.name} in {', '.join(differences)}"
        for run in runs[1:]
        if (differences := changes(_decisive(first.manifest), _decisive(run.manifest)))
    ]


# Partly, or of a model and not of what it is measured on; an environment's manifest may have keys of its own.
_NOT_DECISIVE = frozenset(
    (
        "format",
        "model",
        "dataset",
        "search",
        "search_at",
        "dialect",
        "questions",
        "samples",
        "sampling",
        "price",
        "code",
    )
) | {"created", "task_word"}


def _decisive(manifest: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in manifest.items() if name not in _NOT_DECISIVE}
    found["temperature"] = manifest.get("sampling", {}).get("temperature")
    for name, keys in (("dataset", ("split", "digest")), ("search", ("digest",)), ("dialect", ("name", "digest"))):
        found[name] = {key: manifest.get(name, {}).get(key) for key in keys}
    return found


def _column(benchmark: str, members: Sequence[Finished | None], name: str, measure: Measure) -> Column:
    runs = [run for run in members if run]
    scored = [by_question(run.samples) for run in runs]
    asked_alike = {id for id in scored[0] if len({run[id][0].question if id in run else None for run in scored}) == 1}
    # One id may be two questions, where --anyway mixes data sets.
    common = [id for id in scored[0] if id in asked_alike]
    names = ", ".join(run.path.name for run in runs)
    if not common:
        raise ConfigError(f"{benchmark}: {names} have no scored question in common")
    common = [id for id in common if all(question_means([run[id]], measure) for run in scored)]
    if not common:
        raise ConfigError(f"{benchmark}: {name} is not known of a question that {names} have in common")
    asked = {episode.question_id for run in runs for episode in run.episodes} | {
        id for run in runs for id in run.manifest.get("questions", ())
    }
    failed = {
        episode.question_id
        for run, questions in zip(runs, scored, strict=True)
        for episode in run.samples
        if episode.question_id not in questions
    }
    means = iter(question_means([questions[id] for id in common], measure) for questions in scored)
    values = tuple(next(means) if run else None for run in members)
    missing = len(asked - failed) - len(common)
    entry = _entry(benchmark)
    official = 0 if entry is None else entry.official
    return Column(benchmark, runs[0].split, group_of(benchmark), values, len(failed), missing, official)
