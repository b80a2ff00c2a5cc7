"""The model that is judged, found from what ``-m`` says, and the settings that a training run brings along."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from at2po_agent.config import TrainConfig, load_config
from at2po_agent.judge.aliases import alias_files, resolve_alias
from at2po_agent.judge.config import JudgeConfig, ModelConfig, load_judge_config
from at2po_agent.judge.manifest import files_digest
from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.paths import BUILTIN, resolve_policy
from at2po_agent.structured import ConfigError

_CHECKPOINT, _MODEL = "checkpoint.json", "model"


def load_resolved(cfg: Path | None, overrides: Sequence[str]) -> JudgeConfig:
    """The configuration with its model found: an alias by its endpoint, a run by its newest checkpoint.

    Where the model is a training run and no file is given, the run's environment, evaluation questions, batch and token
    limits are the defaults, so that its greedy evaluation is the trainer's own last one.

    Raises:
        ConfigError: something in it is wrong, or the model is nowhere.
        CheckpointError: a run has no whole checkpoint.
    """
    config = load_judge_config(cfg, overrides)
    model = resolve_alias(config.model)
    if model.base_url is not None:
        return dataclasses.replace(config, model=model)
    folder, run = _find(model.name)
    if run is not None and cfg is None:
        config = load_judge_config(None, [*_settings(load_config(run)), *overrides])
    name = model.name if model.name.startswith(BUILTIN) else str(folder)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, name=name))


def _find(name: str) -> tuple[Path, Path | None]:
    """A model's directory, and the configuration of the run that trained it."""
    path = Path(name).expanduser()
    if (path / "checkpoints").is_dir() and (path / "config.yaml").is_file():
        from at2po_agent import checkpoints

        found = checkpoints.latest(path / "checkpoints", lambda problem: None)
        if found is None:
            raise checkpoints.CheckpointError(f"{path} has no checkpoint yet")
        path = found.path
    if (path / _CHECKPOINT).is_file():
        run = path.parent.parent / "config.yaml"
        return path / _MODEL, run if run.is_file() else None
    try:
        return resolve_policy(name), None
    except PolicyError as error:
        known = " or ".join(map(str, alias_files()))
        raise ConfigError(
            f"model.name (-m): {name!r} is no endpoint's alias ({known}) and no local model ({error}). A model at an "
            "endpoint needs its address: -b http://HOST/v1"
        ) from error


def _settings(run: TrainConfig) -> list[str]:
    rollout = run.rollout
    values = {
        "envs": [run.env.id],
        "split": run.eval.split,
        "questions": run.eval.questions or None,
        "concurrency": run.eval.batch,
        "env": {**run.env.kwargs, **run.eval.kwargs},
        "imports": list(run.env.imports),
        "threads": run.threads,
        "model.dtype": run.policy.dtype,
        "model.device": run.policy.device,
        "model.max_batch": rollout.max_batch,
        "limits.max_turn_tokens": rollout.max_turn_tokens,
        "limits.max_prompt_tokens": rollout.max_prompt_tokens,
        "limits.max_response_tokens": rollout.max_response_tokens,
        "limits.search_retries": rollout.retries,
        "limits.search_retry_seconds": rollout.retry_seconds,
    }
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]


def identity(model: ModelConfig) -> dict[str, Any]:
    """What says in a manifest which model it is."""
    if model.base_url is not None:
        return {"name": model.name, "base_url": model.base_url}
    return {"name": label(model), "files": files_digest(resolve_policy(model.name)), "dtype": model.dtype}


def label(model: ModelConfig) -> str:
    """A short name: of a checkpoint, its run and step."""
    path = Path(model.name)
    if model.base_url is None and path.name == _MODEL and path.parent.parent.name == "checkpoints":
        return f"{path.parent.parent.parent.name}-{path.parent.name}"
    return model.name if model.base_url is not None else path.name
