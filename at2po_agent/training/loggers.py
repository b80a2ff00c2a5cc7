"""Metrics to TensorBoard and Weights & Biases, through their own packages, where the configuration asks for it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from at2po_agent.settings import ConfigError
from at2po_agent.training.config import TrainConfig


class Logger(Protocol):
    """Where numbers go besides ``metrics.jsonl``."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a step."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


def open_loggers(config: TrainConfig, run: Path, first_step: int) -> list[Logger]:
    """The loggers that ``config.log`` names.

    Args:
        config: a run's configuration.
        run: its directory.
        first_step: the first step that will be logged; what TensorBoard holds of later ones is hidden.

    Raises:
        ConfigError: a package is not installed; the message says how to install it.
    """
    loggers: list[Logger] = []
    if config.log.tensorboard:
        loggers.append(TensorBoard(run / "tensorboard", first_step))
    if config.log.wandb_project:
        loggers.append(Wandb(config, run))
    return loggers


class TensorBoard:
    """Event files in the run directory."""

    def __init__(self, folder: Path, first_step: int) -> None:
        _package("tensorboard", "log.tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=first_step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One scalar per metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class Wandb:
    """A W&B run with the whole configuration; a resumed session is a new one of the same group."""

    def __init__(self, config: TrainConfig, run: Path) -> None:
        wandb: Any = _package("wandb", "log.wandb_project")
        self._run = wandb.init(
            project=config.log.wandb_project, group=run.name, name=run.name, dir=str(run), config=asdict(config)
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One history row."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Finish the W&B run."""
        self._run.finish()


def _package(name: str, key: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{key} needs the package {name}: pip install 'at2po[{name}]', or leave {key} out") from error
