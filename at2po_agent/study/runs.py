"""A training run as a measurement: its evaluations question by question, and what was spent before each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from at2po_agent.atomic_files import plain_json
from at2po_agent.training.config import Spent, load_config
from at2po_agent.training.metrics import Scores
from at2po_agent.training.run_dir import RunDirError, evaluation_files, read_metrics, read_sessions
from at2po_agent.training.stored_files import read_value
from at2po_agent.training.stored_types import check_scores
from search_backend.outside import Unusable

COSTS: Mapping[str, str] = {
    "tokens": "generated tokens",
    "calls": "searches and tool calls",
    "seconds": "seconds of training",
    "cpu_seconds": "processor seconds of training",
}
"""What training spends, by the names of ``Spent``, in words."""

_LOGGED: Mapping[str, tuple[str, ...]] = {
    "tokens": ("generated_tokens",),
    "calls": ("calls",),
    "seconds": ("time", "step"),
    "cpu_seconds": ("time", "cpu"),
}


@dataclass(frozen=True)
class TrainedRun:
    """A training run that has ended, or was interrupted: what is recorded so far counts."""

    path: Path
    config: Mapping[str, Any]  # as ``config.yaml`` has it; what is not in it has its default
    session: Mapping[str, Any]  # the last one: data, index, versions, code
    evaluations: tuple[Scores, ...]  # in the order of their steps
    spent: tuple[Spent, ...]  # [steps + 1], before the first step and after each
    unknown: frozenset[str]  # of ``COSTS``: what a run of an earlier version did not record

    @classmethod
    def read(cls, path: Path) -> TrainedRun:
        """Read a run directory.

        Raises:
            RunDirError: it is not the directory of a training run, or something in it cannot be read.
            ConfigError: its configuration cannot be read.
        """
        if not is_training(path):
            raise RunDirError(f"{path} is not the directory of a training run: it has no trees/ beside its config.yaml")
        try:
            evaluations = tuple(read_value(file, check_scores) for file in evaluation_files(path))
        except Unusable as error:
            raise RunDirError(f"{error}; restore the file, or remove it") from error
        spent, unknown = _spent(path)
        session = next(iter(read_sessions(path)[-1:]), {})
        return cls(path, plain_json(load_config(path / "config.yaml")), session, evaluations, spent, unknown)

    @property
    def seed(self) -> int:
        """Of its questions' order and its sampling."""
        return int(self.config.get("seed", 0))

    @property
    def algorithm(self) -> str:
        """The name of what trained it."""
        section = self.config.get("algorithm")
        return str(section.get("name", "?")) if isinstance(section, Mapping) else "?"

    @property
    def total(self) -> Spent:
        """The total cost."""
        return self.spent[-1]

    def cost(self, scores: Scores, name: str) -> float:
        """The cost before an evaluation, by a name of ``COSTS``.

        Raises:
            RunDirError: the run's metrics do not reach as far as its evaluation.
        """
        if scores.step >= len(self.spent):
            raise RunDirError(f"{self.path} has an evaluation after step {scores.step} and metrics of fewer steps")
        return float(getattr(self.spent[scores.step], name))


def is_training(path: Path) -> bool:
    """Whether a folder is the directory of a training run."""
    return (path / "config.yaml").is_file() and (path / "trees").is_dir()


def _spent(path: Path) -> tuple[tuple[Spent, ...], frozenset[str]]:
    """Costs after each step, and the names of amounts that some step did not record: those stay 0."""
    totals: dict[str, Any] = asdict(Spent())
    spent, unknown = [Spent()], set()
    for line in read_metrics(path):
        if "eval_questions" in line:
            continue
        for name, keys in _LOGGED.items():
            value: Any = line
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            if value is None:
                unknown.add(name)
            totals[name] += value or 0
        totals["steps"] = line["step"]
        spent.append(Spent(**totals))
    return tuple(spent), frozenset(unknown)


_NOT_DECISIVE = frozenset({"seed", "run_dir", "name", "log", "checkpoint"})


def decisive(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings of a run that may make it differ from others beside its seed, by their dotted paths."""
    for key, value in config.items():
        if key not in _NOT_DECISIVE:
            yield from flat(key, value)


def flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values in a nested mapping, each by its dotted path."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from flat(f"{key}.{name}", inner)
    else:
        yield key, value
