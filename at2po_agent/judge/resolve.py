"""Find the model that ``-m`` names, and the settings that a training run brings along."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs

from at2po_agent.config_files import Files
from at2po_agent.judge.config import JudgeConfig, ModelConfig, check_model, load_judge_config
from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.loading import BUILTIN, resolve_policy
from at2po_agent.provenance import files_digest
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import TrainConfig, load_config
from at2po_env.registration import BENCHMARKS, GENERATED, default_data_dir, load_benchmark
from search_backend.components import choices

_CHECKPOINT, _MODEL = "checkpoint.json", "model"


def load_resolved(cfg: Files, overrides: Sequence[str] = ()) -> JudgeConfig:
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
    if run is not None and not cfg:
        config = load_judge_config(None, [*_settings(load_config(run)), *overrides])
    name = model.name if model.name.startswith(BUILTIN) else str(folder)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, name=name))


def _find(name: str) -> tuple[Path, Path | None]:
    """A model's directory, and the configuration of the run that trained it."""
    path = Path(name).expanduser()
    if (path / "checkpoints").is_dir() and (path / "config.yaml").is_file():
        from at2po_agent.training import checkpoints

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
            f"model.name (-m): {name!r} is neither an alias in {known} nor a local model ({error}). A model at an "
            "endpoint needs its address: -b http://HOST/v1"
        ) from error


def _settings(run: TrainConfig) -> list[str]:
    rollout = run.rollout
    values = {
        "envs": [run.env.id],
        "split": run.eval.split,
        "questions": run.eval.questions or None,
        "concurrency": run.eval.batch,
        "env": {**run.env.arguments, **run.eval.kwargs},
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


def starting_policy(model: ModelConfig) -> ModelConfig:
    """The policy that a training run began with.

    Args:
        model: a checkpoint of the run, as ``load_resolved`` finds it.

    Raises:
        ConfigError: it is no checkpoint of a run.
        PolicyError: the policy is no longer where the run found it.
    """
    path = Path(model.name)
    run = path.parent.parent.parent / "config.yaml"
    if model.base_url is not None or path.name != _MODEL or not run.is_file():
        raise ConfigError(
            f"--start compares a training run with the policy that it began with, and model.name (-m), {model.name!r}, "
            "is not a run: give a directory such as runs/quickstart-…"
        )
    name = load_config(run).policy.path
    resolve_policy(name)
    return dataclasses.replace(model, name=name)


def identity(model: ModelConfig) -> dict[str, Any]:
    """The model's identity in a manifest."""
    if model.base_url is not None:
        return {"name": model.name, "base_url": model.base_url}
    return {"name": label(model), "files": files_digest(resolve_policy(model.name)), "dtype": model.dtype}


def label(model: ModelConfig) -> str:
    """A short name: of a checkpoint, its run and step."""
    path = Path(model.name)
    if model.base_url is None and path.name == _MODEL and path.parent.parent.name == "checkpoints":
        return f"{path.parent.parent.parent.name}-{path.parent.name}"
    return model.name if model.base_url is not None else path.name


FILE = "endpoints.toml"
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "base_url": str,
    "model": str,
    "key_var": str,
    "price_prompt": (int, float),
    "price_completion": (int, float),
}


def alias_files() -> tuple[Path, ...]:
    """Files with aliases; the first one that defines an alias wins."""
    return Path(FILE), platformdirs.user_config_path("at2po", appauthor=False) / FILE


def resolve_alias(model: ModelConfig) -> ModelConfig:
    """The model with what its alias says, where its name is one; what is set beside it stays.

    Raises:
        ConfigError: a file of aliases cannot be used. Values in it are not repeated: one could be a key.
    """
    if model.base_url is not None:
        return model
    for path in alias_files():
        entry = _read(path).get(model.name)
        if entry is not None:
            return _applied(model, entry, f"{path}: [{model.name}]")
    return model


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _applied(model: ModelConfig, entry: Any, where: str) -> ModelConfig:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} is no table of {', '.join(_KINDS)}")
    for name, value in entry.items():
        if name not in _KINDS:
            raise ConfigError(f"{where}: there is no {name!r}; there are {', '.join(_KINDS)}")
        if isinstance(value, bool) or not isinstance(value, _KINDS[name]):
            raise ConfigError(f"{where}: {name} is of the wrong type")
    if "base_url" not in entry:
        raise ConfigError(f"{where} has no base_url")
    values = {name: value for name, value in entry.items() if name != "model" and getattr(model, name) is None}
    found = dataclasses.replace(model, name=entry.get("model", model.name), **values)
    check_model(found)
    return found


DEFAULT_SPLITS = ("test", "dev")


def env_ids(named: Sequence[str]) -> list[str]:
    """Gymnasium ids of what was named, in order and each once.

    A group (``multi-hop``, ``single-hop``) means the real benchmarks in it, ``all`` every one of them.

    Raises:
        ConfigError: nothing was named, or it is neither an id nor a benchmark nor a group.
    """
    real = {name: entry for name, entry in BENCHMARKS.items() if GENERATED not in entry.groups}
    groups = {group: [e.id for e in real.values() if group in e.groups] for e in real.values() for group in e.groups}
    groups["all"] = [entry.id for entry in real.values()]
    found: list[str] = []
    for name in named:
        if name in groups:
            found += groups[name]
        elif name in BENCHMARKS:
            found.append(BENCHMARKS[name].id)
        elif "-v" in name:  # a registered id; whether it exists is said when it is made
            found.append(name)
        else:
            known = [*(entry.id for entry in BENCHMARKS.values()), *BENCHMARKS, *groups]
            raise ConfigError(f"envs (-e): there is no environment or group {name!r}; {choices(name, known)}")
    if not found:
        raise ConfigError("envs (-e): name an environment, such as AT2PO-HotpotQA-v0, or a group: " + ", ".join(groups))
    return list(dict.fromkeys(found))


def default_split(env_id: str) -> str:
    """``test`` if its file is installed, else ``dev`` if its is; else whichever of them the benchmark has."""
    name = next((name for name, entry in BENCHMARKS.items() if entry.id == env_id), None)
    if name is None:
        return DEFAULT_SPLITS[0]
    source = load_benchmark(name)
    there = source.available(default_data_dir())
    has = [split for split in DEFAULT_SPLITS if split in source.splits]
    return ([split for split in has if split in there] or has or source.splits)[0]
