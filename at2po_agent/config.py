"""Everything a training run can be told, as frozen dataclasses, and how they are read from YAML and the command line.

``load_config`` lays a YAML file over the defaults below and ``key=value`` overrides over both (OmegaConf, so
``${oc.env:NAME}`` works). A key that does not exist or a value of the wrong type is a :class:`ConfigError` that names
the key in full, where it was written, and the nearest keys that do exist.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_type_hints

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class ConfigError(ValueError):
    """A configuration cannot be used; the message names the key, where it was written and what to do."""


def _at_least(default: Any, low: float) -> Any:
    """A field whose value, where it is not null, is at least ``low``."""
    return field(default=default, metadata={"at_least": low})


@dataclass(frozen=True)
class EnvConfig:
    """Which environment is trained on."""

    id: str = MISSING  # a Gymnasium id such as AT2PO-MicroWiki-v0
    split: str = "train"
    kwargs: dict[str, Any] = field(default_factory=dict)  # passed to gymnasium.make
    imports: tuple[str, ...] = ()  # modules imported first: where your own tasks register their ids


@dataclass(frozen=True)
class PolicyConfig:
    """Which model is trained, and how it is held."""

    path: str = MISSING  # builtin:NAME or a Hugging Face model directory
    dtype: Literal["float32", "bfloat16"] = "float32"
    attn: Literal["sdpa"] = "sdpa"  # eager attention is silently wrong with the packed update's boolean mask
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True)
class RolloutConfig:
    """How trees are grown."""

    questions: int = _at_least(64, 1)  # per step, one tree each
    temperature: float = 1.0  # above 0: the log-probabilities that training uses are of this distribution
    max_prompt_tokens: int = _at_least(2000, 1)
    max_response_tokens: int = _at_least(6192, 1)  # of a whole path: generated and observed
    max_turn_tokens: int = _at_least(512, 1)
    search_retries: int = _at_least(3, 0)  # before a path is tried again from its snapshot, then pruned
    max_batch: int = _at_least(256, 1)  # requests that the engine runs together


@dataclass(frozen=True)
class AlgorithmConfig:
    """A named composition, and what is changed about its three components."""

    name: str = "at2po"
    expansion: dict[str, Any] = field(default_factory=dict)
    credit: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UpdateConfig:
    """How the weights follow a rollout batch."""

    lr: float = _at_least(1e-6, 0)
    weight_decay: float = _at_least(0.01, 0)
    grad_clip: float = _at_least(1.0, 0)  # of the gradient's norm
    schedule: Literal["constant", "linear", "cosine"] = "constant"  # after the warm-up, over train.steps
    warmup_steps: int = _at_least(0, 0)  # optimiser steps
    mini_batch: int = _at_least(8, 1)  # questions per optimiser step
    max_tokens: int = _at_least(8192, 1)  # packed tokens per forward pass
    epochs: int = _at_least(1, 1)
    old_logprobs: Literal["rollout", "recompute"] = "rollout"
    kl_coef: float = _at_least(0.0, 0)  # to the starting policy


@dataclass(frozen=True)
class TrainLimits:
    """When training ends: at whichever limit comes first."""

    steps: int = _at_least(240, 0)  # rollout batches, each ceil(questions / mini_batch) optimiser steps an epoch
    max_seconds: float | None = _at_least(None, 0)  # of training itself; evaluation and loading are not counted


@dataclass(frozen=True)
class EvalConfig:
    """Greedy evaluation on questions that are never trained on."""

    split: str = "dev"
    questions: int = _at_least(500, 0)  # the first of the split; 0 turns evaluation off
    every: int = _at_least(20, 0)  # steps; 0: only at the start and the end
    at_start: bool = True
    at_end: bool = True
    batch: int = _at_least(256, 1)  # episodes that run together
    kwargs: dict[str, Any] = field(default_factory=dict)  # laid over env.kwargs


@dataclass(frozen=True)
class CheckpointConfig:
    """How often everything is written down. A last checkpoint is always written when a run stops."""

    every: int = _at_least(20, 0)  # steps; 0: only when the run stops
    keep: int = _at_least(2, 1)


@dataclass(frozen=True)
class LogConfig:
    """What is recorded besides metrics.jsonl."""

    trees_every: int = _at_least(1, 0)  # steps between stored rollouts: 1 keeps every tree, 0 none
    tensorboard: bool = False
    wandb_project: str | None = None


@dataclass(frozen=True)
class TrainConfig:
    """The root of a training configuration. The numbers are those of the paper's runs (ALGORITHMS §5)."""

    name: str = "at2po"
    run_dir: str | None = None  # default: runs/NAME-TIMESTAMP
    seed: int = _at_least(0, 0)
    deterministic: bool = True
    threads: int = _at_least(0, 0)  # of torch; 0: every core
    env: EnvConfig = field(default_factory=EnvConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    train: TrainLimits = field(default_factory=TrainLimits)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """Defaults, then the YAML file, then ``key=value`` overrides.

    Raises:
        ConfigError: a file is missing or not YAML, a key is unknown, a value has the wrong type or is out of range.
    """
    merged: Any = OmegaConf.structured(TrainConfig)
    sources = ([_read_yaml(path)] if path else []) + [_read_override(text) for text in overrides]
    for values, where in sources:
        _check_keys(values, TrainConfig, where)
        try:
            merged = OmegaConf.merge(merged, values)
        except OmegaConfBaseException as error:
            key = error.full_key or ""
            raise ConfigError(f"{where.of(key)}: {key}: {_first_line(error)}") from error
    origin = _Origin(tuple(where for _, where in sources))
    for key in sorted(OmegaConf.missing_keys(merged)):
        place = path or "the configuration"
        raise ConfigError(f"{place}: {key} is not set; add it to the file or pass {key}=VALUE")
    try:
        config = cast(TrainConfig, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        key = error.full_key or ""
        raise ConfigError(f"{origin.of(key)}: {key}: {_first_line(error)}") from error
    _check_ranges(config, origin)
    return config


def to_yaml(config: TrainConfig) -> str:
    """The configuration as YAML that ``load_config`` reads back to an equal value."""
    return OmegaConf.to_yaml(OmegaConf.structured(config), resolve=True)


@dataclass(frozen=True)
class _Where:
    """Where values were written: a file with the line of every key, or one override (line 0)."""

    source: str
    lines: Mapping[str, int]

    def of(self, key: str) -> str:
        line = self.lines.get(key)
        return f"{self.source}:{line}" if line else self.source


@dataclass(frozen=True)
class _Origin:
    """Which source set the value that a key ended up with."""

    sources: tuple[_Where, ...]

    def of(self, key: str) -> str:
        for where in reversed(self.sources):
            if key in where.lines:
                return where.of(key)
        return "the configuration"


def _read_yaml(path: Path) -> tuple[dict[str, Any], _Where]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        # OmegaConf's own reading of YAML: duplicate keys are errors, 1e-6 is a number
        values = OmegaConf.to_container(OmegaConf.create(text)) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem or error}") from error
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: not a usable YAML file: {_first_line(error)}") from error
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}:1: a configuration is a mapping of keys to values")
    return cast(dict[str, Any], values), _Where(str(path), dict(_key_lines(node) if node else ()))


def _key_lines(node: yaml.MappingNode, prefix: str = "") -> Iterator[tuple[str, int]]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        yield name, key.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            yield from _key_lines(value, f"{name}.")


def _read_override(text: str) -> tuple[dict[str, Any], _Where]:
    key, equals, _ = text.partition("=")
    where = _Where(f"override {text!r}", {key: 0})
    if not key.strip() or not equals:
        raise ConfigError(f"{where.source}: write it as key=value, for example train.steps=10")
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist([text]))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{where.source}: the value is not valid YAML: {_first_line(error)}") from error
    return cast(dict[str, Any], values), where


def _check_keys(values: Mapping[Any, Any], schema: type, where: _Where, prefix: str = "") -> None:
    """Unknown keys and sections that are not sections, told better than a merge can."""
    hints = get_type_hints(schema)
    for key, value in values.items():
        full = f"{prefix}{key}"
        if key not in hints:
            raise ConfigError(f"{where.of(full)}: there is no key {full!r}{_near(full)}")
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                known = ", ".join(get_type_hints(hints[key]))
                raise ConfigError(f"{where.of(full)}: {full} is a section (with {known}), not {value!r}")
            _check_keys(value, cast(type, hints[key]), where, f"{full}.")


def _all_keys(schema: type, prefix: str = "") -> Iterator[str]:
    for key, hint in get_type_hints(schema).items():
        yield f"{prefix}{key}"
        if dataclasses.is_dataclass(hint):
            yield from _all_keys(cast(type, hint), f"{prefix}{key}.")


def _near(key: str) -> str:
    """Keys of the same name in another section first, then keys spelled alike."""
    keys = [known for known in _all_keys(TrainConfig) if "." in known or "." not in key]
    name = key.rpartition(".")[2]
    same_name = [known for known in keys if known.rpartition(".")[2] == name]
    names = {known.rpartition(".")[2]: known for known in keys}
    alike = difflib.get_close_matches(key, keys, n=2, cutoff=0.75)
    alike += [names[match] for match in difflib.get_close_matches(name, names, n=1, cutoff=0.75)]
    found = list(dict.fromkeys(same_name + alike))[:3]
    return f"; did you mean {' or '.join(found)}?" if found else "; --print-config shows all keys"


def _check_ranges(section: Any, origin: _Origin, prefix: str = "") -> None:
    for entry in dataclasses.fields(section):
        key, value = f"{prefix}{entry.name}", getattr(section, entry.name)
        low = entry.metadata.get("at_least")
        if dataclasses.is_dataclass(value):
            _check_ranges(value, origin, f"{key}.")
        elif low is not None and value is not None and not value >= low:  # so that nan fails too
            raise ConfigError(f"{origin.of(key)}: {key} is {value}, it must be at least {low}")
    if isinstance(section, RolloutConfig) and not section.temperature > 0:
        key = "rollout.temperature"
        raise ConfigError(f"{origin.of(key)}: {key} is {section.temperature}, sampling needs more than 0")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
