"""Check that a run goes on as the run that it was: same data, index and settings, and every file that it wrote."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from at2po_agent.atomic_files import plain_json
from at2po_agent.provenance import differences
from at2po_agent.settings import defaults
from at2po_agent.training.config import TrainConfig
from at2po_agent.training.run_dir import ACCEPTABLE, RESUMABLE, RunDirError, read_metrics, step_of, tree_files
from at2po_agent.training.stored_trees import ranges

_FREE = (*RESUMABLE, "name", "run_dir")  # keys of the configuration that may change: these two decide nothing

Session = Mapping[str, Any]  # an entry of a run's manifest


def describe_session(manifest: Session, config: TrainConfig) -> dict[str, Any]:
    """The entry of ``manifest.json`` for a session of a run: ``Session.manifest()`` and the configuration."""
    return {**manifest, "config": plain_json(config)}


def check_unchanged(run: Path, before: Session, now: Session, accept: Collection[str]) -> list[str]:
    """Refuse to go on with a run whose data, index or configuration has changed, unless that kind is accepted.

    Args:
        run: its directory, for the message.
        before: its last session, as ``describe_session`` made it or an earlier version that kept no configuration.
        now: the session that begins.
        accept: of ``run_dir.ACCEPTABLE``.

    Returns:
        The changes that were accepted, as ``data: env.dataset.digest: 1b2c… → 3d4e…``.

    Raises:
        RunDirError: something changed that is not accepted.
    """
    changed = {kind: list(differences(*_of_kind(kind, before, now))) for kind in ACCEPTABLE}
    refused = [kind for kind, texts in changed.items() if texts and kind not in accept]
    if refused:
        named = "; ".join(f"{kind} ({', '.join(changed[kind])})" for kind in refused)
        every = ",".join(kind for kind, texts in changed.items() if texts)
        raise RunDirError(
            f"{run} cannot be resumed, because what it trains on has changed: {named}. Restore it, or continue "
            f"anyway with --resume {run} --accept-change {every}"
        )
    return [f"{kind}: {text}" for kind, texts in changed.items() for text in texts]


def changed_code(before: Session, now: Session) -> list[str]:
    """Differences in packages, Python, commit and components of one's own between two sessions; a run may go on."""
    names = ("packages", "python", "git", "components", "env.components")
    return list(differences({name: _at(before, name) for name in names}, {name: _at(now, name) for name in names}))


def missing_files(run: Path, sessions: Sequence[Session], step: int) -> Iterator[str]:
    """Files that a run of ``step`` steps has written and that are missing now, in words.

    Trees are missed where the sessions say that they were stored; those of earlier versions do not say it.
    """
    logged = {line["step"] for line in read_metrics(run) if "eval_questions" not in line}
    if unlogged := [at for at in range(1, step + 1) if at not in logged]:
        yield f"{run / 'metrics.jsonl'} has no metrics of step {ranges(unlogged)}, which the run has trained"
    stored = {step_of(file) for file in tree_files(run)}
    if lost := [at for at in _steps_with_trees(sessions, step) if at not in stored]:
        yield f"{run / 'trees'} has no trees of step {ranges(lost)}, which the run has stored"


def _of_kind(kind: str, before: Session, now: Session) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entries of two sessions about the data, the index or the configuration."""
    envs = ["env", "eval_env"] if _evaluates_the_same(before, now) else ["env"]
    names = {
        # Not a dataset's notes, which a later version may word in another way.
        "data": [f"{env}.dataset.{name}" for env in envs for name in ("name", "split", "questions", "digest")],
        "index": [f"{env}.search" for env in envs],
        "config": [*(f"{env}.dialect" for env in envs), "policy.codec"],
    }[kind]
    left, right = ({name: _at(session, name) for name in names} for session in (before, now))
    if kind == "config" and "config" in before:
        left |= _settings(before["config"])
        right |= _settings(now["config"])
    return left, right


def _evaluates_the_same(before: Session, now: Session) -> bool:
    """Whether both sessions evaluate on the same split with the same arguments: a resumed run may change them."""
    asked = [_at(session, "config.eval.kwargs") for session in (before, now)]
    splits = [_at(session, "eval_env.dataset.split") for session in (before, now)]
    return splits[0] == splits[1] and ("config" not in before or asked[0] == asked[1])


def _at(session: Session, path: str) -> Any:
    """An entry by its dotted path; None where there is none."""
    value: Any = session
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that may not change, with the defaults of those that the version which stored them did not have."""
    try:
        filled: Any = OmegaConf.to_container(defaults(TrainConfig, stored))
    except OmegaConfBaseException:
        # Of a version with other settings, which the comparison names.
        filled = stored
    return {key: value for key, value in filled.items() if key not in _FREE}


def _steps_with_trees(sessions: Sequence[Session], step: int) -> list[int]:
    """Steps whose trees were stored, as the last session says that trained each."""
    every = dict.fromkeys(range(1, step + 1), 0)
    for session in sessions:
        if "from_step" in session:
            every |= dict.fromkeys(range(session["from_step"] + 1, step + 1), _at(session, "config.log.trees_every"))
    return [at for at, trees in every.items() if trees and at % trees == 0]
