"""Scores the stored predictions of an evaluation again, with this version's metrics and the stored gold answers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from at2po_agent.atomic_files import write_text
from at2po_agent.judge.episodes.records import EPISODES, EpisodeRecord
from at2po_agent.judge.results.directory import MANIFEST, read_manifest, write_summary
from at2po_agent.judge.results.metrics import Summary
from at2po_agent.judge.results.stored import Finished
from at2po_agent.judge.results.tree_report import write_tree
from at2po_agent.training.run_dir import RunDirError, take_lock
from at2po_env.scoring import METRICS, contains, exact_match, f1


@dataclasses.dataclass(frozen=True)
class Rescored:
    """Both summaries are over the same episodes: with the scores that were stored, and with the new ones."""

    of: str  # benchmark, split and model
    before: Summary
    after: Summary
    changed: int  # episodes with another score
    episodes: int  # that are scored


def rescore(path: Path) -> Rescored:
    """Score every stored prediction of a run again, and write what comes of it.

    That is ``summary.json``, the episodes where a score changed, and of an evaluation with trees the table and curve.
    Nothing is asked of a model and no data is needed. An episode without an answer scores 0, one that infrastructure
    ended nothing.

    Raises:
        RunDirError: it is not the directory of an evaluation, an evaluation is running in it, or a question has no
            answer.
        DiskError: something cannot be written; each file is replaced as a whole, and doing it again completes it.
    """
    read_manifest(path)  # what is no evaluation is not locked
    with take_lock(path):
        run = Finished.read(path)
        scored = [_scored(episode) for episode in run.episodes]
        changed = sum(old != new for old, new in zip(run.episodes, scored, strict=True))
        if changed:
            write_text(path / EPISODES, "".join(episode.to_line() for episode in scored))
        if run.manifest.get("metrics") != METRICS:
            write_text(path / MANIFEST, json.dumps({**run.manifest, "metrics": METRICS}, indent=1) + "\n")
        after = run.summarised(scored)
        write_summary(path, after)
        if run.tree is not None:
            write_tree(path, run.env, run.split, run.model, scored, run.tree)
    return Rescored(
        f"{run.benchmark} {run.split}: {run.model}",
        run.summary,
        after,
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
