"""Score an evaluation again with this version: its stored answers against the gold ones, or its turns played again.

Scores of search questions are functions of an answer and the gold answers. What another task measures only its
environment knows, so the stored turns are taken in it again.
"""

from __future__ import annotations

import dataclasses
import json
from contextlib import closing
from pathlib import Path
from typing import Any

from at2po_agent.atomic_files import write_text
from at2po_agent.environments import check_env_id, import_tasks
from at2po_agent.judge.episodes.records import EPISODES, EpisodeRecord
from at2po_agent.judge.opening import open_env
from at2po_agent.judge.results.directory import MANIFEST, read_config, read_manifest, write_summary
from at2po_agent.judge.results.metrics import Summary
from at2po_agent.judge.results.stored import Finished
from at2po_agent.judge.results.tree_report import write_tree
from at2po_agent.training.run_dir import RunDirError, take_lock
from at2po_env.scoring import METRICS, contains, exact_match, f1
from at2po_env.state import plain
from at2po_env.tasks import Metric, TaskEnv


@dataclasses.dataclass(frozen=True)
class Rescored:
    """Both summaries are over the same episodes: with the scores that were stored, and with the new ones."""

    of: str  # benchmark, split and model
    before: Summary
    after: Summary
    metrics: tuple[Metric, ...]  # that are scored again
    changed: int  # episodes with another score
    episodes: int  # that are scored


def rescore(path: Path) -> Rescored:
    """Score every stored episode of a run again, and write what comes of it.

    That is ``summary.json``, the episodes where a score changed, and of an evaluation with trees the table and curve.
    Nothing is asked of a model, and search questions need no data. An episode without an answer scores 0, one that
    infrastructure ended nothing.

    Raises:
        ConfigError: the tasks are no search questions, and their environment cannot be opened.
        RunDirError: it is not the directory of an evaluation, an evaluation is running in it, or a question has no
            answer.
        DiskError: something cannot be written; each file is replaced as a whole, and doing it again completes it.
    """
    read_manifest(path)  # what is no evaluation is not locked
    with take_lock(path):
        run = Finished.read(path)
        search = not isinstance(run.manifest.get("metrics"), list)
        scored = [_scored(episode) for episode in run.episodes] if search else _played_again(run)
        changed = sum(old != new for old, new in zip(run.episodes, scored, strict=True))
        if changed:
            write_text(path / EPISODES, "".join(episode.to_line() for episode in scored))
        if search and run.manifest.get("metrics") != METRICS:
            write_text(path / MANIFEST, json.dumps({**run.manifest, "metrics": METRICS}, indent=1) + "\n")
        after = run.summarised(scored)
        write_summary(path, after)
        if run.tree is not None:
            write_tree(path, scored, run.tree)
    return Rescored(
        f"{run.benchmark} {run.split}: {run.model}",
        run.summary,
        after,
        (Metric("em", True), Metric("f1", True), Metric("contains", True)) if search else run.measured.metrics,
        changed,
        sum(one.error is None for one in scored),
    )


def _scored(episode: EpisodeRecord) -> EpisodeRecord:
    if episode.error is not None:
        return episode
    if episode.prediction is None:
        return dataclasses.replace(episode, em=0.0, f1=0.0, contains=0.0)
    said, gold = episode.prediction, episode.answers
    if not gold:
        raise RunDirError(f"question {episode.question_id!r} is stored without an answer to score against")
    return dataclasses.replace(episode, em=exact_match(said, gold), f1=f1(said, gold), contains=contains(said, gold))


def _played_again(run: Finished) -> list[EpisodeRecord]:
    """The episodes with what the environment measures now, when their stored turns are taken in it again."""
    config = read_config(run.path)
    import_tasks(config.imports)
    check_env_id(config.envs[0])
    with closing(open_env(config)) as env:
        return [_taken(env, episode, run.path) if episode.error is None else episode for episode in run.episodes]


def _taken(env: TaskEnv[Any], episode: EpisodeRecord, run: Path) -> EpisodeRecord:
    changed = "its environment has changed, so run a new evaluation"
    try:
        _, info = env.reset(options={"task_id": episode.question_id})
    except KeyError as error:
        raise RunDirError(f"{run}: there is no task {episode.question_id!r} any more: {changed}") from error
    for number, turn in enumerate(episode.turns, start=1):
        if "ended" not in info:
            info = env.step(turn.text)[4]
        if len(env.transcript(env.snapshot())) < number or _seen(env) != turn.observation:
            what = f"turn {number} of {episode.question_id} has another result than when it was played"
            raise RunDirError(f"{run}: {what}: {changed}")
    if "ended" not in info:
        try:
            info = env.end(episode.ended)[4]
        except ValueError as error:
            raise RunDirError(f"{run}: {episode.question_id} does not end as it did: {changed}") from error
    measured = {metric.name: float(info[metric.name]) for metric in env.metrics}
    return dataclasses.replace(episode, ended=info["ended"], metrics=measured)


def _seen(env: TaskEnv[Any]) -> str:
    """The observation of the last turn."""
    return plain(env.transcript(env.snapshot())[-1].observation)
