"""A study as it is written down: variants of one training configuration, seeds, and the budget of every run."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from omegaconf import MISSING

from at2po_agent.config_files import Files, locate, locate_all
from at2po_agent.settings import ConfigError, at_least, load
from at2po_agent.training.config import TrainConfig, load_config

_NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True)
class Budget:
    """The budget of every training run: exactly one of these. The step that passes it is finished."""

    tokens: int | None = at_least(None, 1)  # generated
    calls: int | None = at_least(None, 1)  # searches and tool calls
    seconds: float | None = at_least(None, 0)  # of training
    cpu_seconds: float | None = at_least(None, 0)  # of all processors
    steps: int | None = at_least(None, 1)  # of training

    @property
    def name(self) -> str:
        """The name of the limit that is set."""
        return next(name for name, value in asdict(self).items() if value is not None)

    @property
    def amount(self) -> float:
        """Its amount."""
        return float(getattr(self, self.name))

    def overrides(self) -> list[str]:
        """Settings of a run that end it at this budget, and at no other but ``train.steps``."""
        limits = {name: value for name, value in asdict(self).items() if name != "steps"}
        set_to = [f"train.max_{name}={'null' if value is None else value}" for name, value in limits.items()]
        return set_to + ([f"train.steps={self.steps}"] if self.steps is not None else [])


@dataclass(frozen=True)
class StudyConfig:
    """A study's file."""

    config: str = MISSING  # training configuration of every run: packaged, or a file relative to the study's
    variants: dict[str, list[str]] = field(default_factory=dict)  # name: overrides, such as algorithm.name=grpo
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])  # every variant is trained with each
    budget: Budget = field(default_factory=Budget)
    overrides: list[str] = field(default_factory=list)  # overrides of every run; those of its variant come after them
    reference: str | None = None  # the variant that the others are compared with; default: the first
    name: str = "study"  # appears in the title of the page and in the folder
    out: str | None = None  # folder of the runs and the page; default: runs/studies/NAME
    jobs: int = at_least(0, 0)  # runs at a time; 0: as many as the cores allow at `threads` each
    threads: int = at_least(1, 1)  # threads per run


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    variant: str
    seed: int
    path: Path  # its run directory
    cfg: Path  # the training configuration
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """As files and messages have it."""
        return self.path.name

    def training(self) -> TrainConfig:
        """Its whole configuration.

        Raises:
            ConfigError: see ``training.config.load_config``.
        """
        return load_config(self.cfg, self.overrides)


@dataclass(frozen=True)
class Study:
    """A study with what follows from its file."""

    config: StudyConfig
    out: Path
    reference: str
    cells: tuple[Cell, ...]  # seed by seed, all variants of one before the next: a part of a study can be compared


def load_study(files: Files, overrides: Sequence[str] = ()) -> Study:
    """Read a study's files, later ones over earlier ones, and check it with the training configuration of every run.

    Raises:
        ConfigError: the message names the key and what would be right.
    """
    paths = locate_all(files)
    config = load(StudyConfig, paths, overrides)
    _check(", ".join(map(str, paths)), config)
    training = _training(config.config, paths)
    out = Path(config.out or Path("runs") / "studies" / config.name)
    cells = tuple(_cell(config, training, out, variant, seed) for seed in config.seeds for variant in config.variants)
    return Study(config, out, config.reference or next(iter(config.variants)), cells)


def _training(name: str, study: Sequence[Path]) -> Path:
    """The training configuration: relative to one of the study's files, the last first, or packaged."""
    beside = [path.parent / name for path in reversed(study) if (path.parent / name).is_file()]
    return beside[0] if beside else locate(name, study[-1].parent if study else Path())


def _check(file: str, config: StudyConfig) -> None:
    budgets = [name for name, value in asdict(config.budget).items() if value is not None]
    if len(budgets) != 1:
        known = ", ".join(asdict(config.budget))
        raise ConfigError(f"{file}: budget is one of {known}, such as budget: {{tokens: 75000}}; got {len(budgets)}")
    if not config.variants:
        raise ConfigError(
            f"{file}: variants is empty; name one or more, such as variants: {{grpo: [algorithm.name=grpo]}}"
        )
    if wrong := [name for name in config.variants if not _NAME.fullmatch(name)]:
        raise ConfigError(f"{file}: variants: {wrong[0]!r} names folders, so it has letters, digits and . + - _ only")
    if config.reference is not None and config.reference not in config.variants:
        raise ConfigError(f"{file}: reference is {config.reference!r}, the variants are {', '.join(config.variants)}")
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise ConfigError(f"{file}: seeds are one or more numbers, each once; got {config.seeds}")


def _cell(config: StudyConfig, cfg: Path, out: Path, variant: str, seed: int) -> Cell:
    path = out / "cells" / f"{variant}-seed{seed}"
    own = [f"seed={seed}", f"name={json.dumps(path.name)}", f"run_dir={json.dumps(str(path))}"]
    chosen = [*config.overrides, *config.variants[variant], *config.budget.overrides()]
    return Cell(
        variant, seed, path, cfg, (*chosen, f"threads={config.threads}", "processes=1", "update.sharding=full", *own)
    )
