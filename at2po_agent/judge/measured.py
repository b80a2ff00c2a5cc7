"""The metrics of an evaluation: those of its environment, and those that every episode has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from at2po_agent.judge.episodes.records import EpisodeRecord, cut, malformed
from at2po_agent.judge.search_qa import SEARCH_METRICS
from at2po_env.tasks import Metric, TaskEnv

Measure = Callable[[EpisodeRecord], float | None]  # None: not known of this episode


def _of(name: str) -> Measure:
    return lambda episode: episode.measured.get(name)


MEASURES: Mapping[str, Measure] = {
    "em": _of("em"),
    "f1": _of("f1"),
    "contains": _of("contains"),
    "malformed": lambda episode: float(malformed(episode)),
    "cut": lambda episode: float(cut(episode)),
    "searches": _of("searches"),
    "turns": lambda episode: len(episode.turns),
    "recall": _of("recall"),
    "prompt_tokens": lambda episode: episode.prompt_tokens,
    "completion_tokens": lambda episode: episode.completion_tokens,
    "seconds": lambda episode: episode.seconds,
}
"""Means of an evaluation, by name, in the order in which they are shown; ``cost`` follows where prices are known."""

SHARES = frozenset({"em", "f1", "contains", "malformed", "cut", "recall"})
"""Measures that lie between 0 and 1: their intervals are those of shares, and they are shown in percent."""

_OF_SEARCH = {"em", "f1", "contains", "searches", "recall"}  # of MEASURES
_WORDS = {"f1": "F1", "contains": "contains the gold answer"}


@dataclass(frozen=True)
class Measured:
    """The metrics of an evaluation's tasks, and what its tasks are called."""

    metrics: tuple[Metric, ...] = SEARCH_METRICS  # the one that results are quoted in first
    task_word: str = "question"

    @classmethod
    def by(cls, env: TaskEnv[Any]) -> Measured:
        """Those of an environment."""
        return cls(env.metrics, env.task_word)

    @classmethod
    def stored(cls, manifest: Mapping[str, Any]) -> Measured:
        """Those that a manifest names; earlier versions, and search questions, name none."""
        metrics, word = manifest.get("metrics"), str(manifest.get("task_word", "question"))
        if isinstance(metrics, list) and metrics:
            return cls(tuple(Metric(one["name"], one["share"], one["title"], one["words"]) for one in metrics), word)
        return cls(task_word=word)

    @property
    def first(self) -> Metric:
        """The metric that results are quoted in."""
        return self.metrics[0]

    @property
    def measures(self) -> dict[str, Measure]:
        """Everything that has a mean, by name: metrics that only these tasks have come first."""
        left_out = set() if self.metrics == SEARCH_METRICS else _OF_SEARCH - {metric.name for metric in self.metrics}
        general = {name: measure for name, measure in MEASURES.items() if name not in left_out}
        return {metric.name: _of(metric.name) for metric in self.own} | general

    @property
    def own(self) -> tuple[Metric, ...]:
        """Metrics that are not among ``MEASURES``."""
        return tuple(metric for metric in self.metrics if metric.name not in MEASURES)

    def metric(self, name: str) -> Metric:
        """A measure as a metric; its ``share`` is whether it lies between 0 and 1.

        Raises:
            KeyError: there is none of this name.
        """
        known = {metric.name: metric for metric in self.metrics}
        if name not in known and name not in MEASURES:
            raise KeyError(name)
        metric = known.get(name, Metric(name))
        words = metric.words or metric.title or name.replace("_", " ")
        return Metric(name, metric.share or name in SHARES, metric.title, _WORDS.get(name, words))
