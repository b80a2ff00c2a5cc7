"""Scores of search questions, which records hold in fields of their own, and of other tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from at2po_env.scoring import METRICS
from at2po_env.search_qa import SearchQAEnv
from at2po_env.tasks import Metric, TaskEnv, TurnView

SEARCH_METRICS: tuple[Metric, ...] = SearchQAEnv.metrics


def measures(env: TaskEnv[Any]) -> str | list[dict[str, Any]]:
    """The manifest's entry for metrics: the version of the answer scores, or the metrics of another task."""
    if _answers_questions(env):
        return METRICS
    return [{"name": m.name, "share": m.share, "title": m.title, "words": m.words} for m in env.metrics]


def scores(env: TaskEnv[Any], info: Mapping[str, Any], turns: Sequence[TurnView]) -> dict[str, Any]:
    """The fields of a record that say how an episode went.

    Args:
        env: of the episode.
        info: in the end; without ``ended`` nothing is scored.
        turns: that were taken.
    """
    ended = "ended" in info
    if not _answers_questions(env):
        return {"metrics": {metric.name: float(info[metric.name]) for metric in env.metrics} if ended else {}}
    titles = env.question(info["task_id"]).supporting_titles
    wanted = set(titles)
    found = {hit["title"] for turn in turns for hit in turn.hits}
    return {
        **({name: info[name] for name in ("em", "f1", "contains")} if ended else {}),
        "gold_titles": titles,
        "recall": len(wanted & found) / len(wanted) if wanted and ended else None,
        "searches": info["searches"],
    }


def _answers_questions(env: TaskEnv[Any]) -> TypeGuard[SearchQAEnv]:
    """Whether an environment is of search questions, and measures what these do; a subclass may have other metrics."""
    return isinstance(env, SearchQAEnv) and env.metrics == SEARCH_METRICS
