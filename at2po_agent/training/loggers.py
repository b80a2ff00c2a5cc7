"""Metrics and examples to TensorBoard and Weights & Biases, through their own packages, where they are asked for.

There a scalar's name says what it is of: ``rollout/entropy``, ``engine/prefilled_tokens``, ``update/loss``,
``eval/em``, ``time/step_seconds``. In ``metrics.jsonl`` the same numbers have the keys of ``training.metrics``.
"""

from __future__ import annotations

import html
import importlib
import io
import json
import textwrap
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from at2po_agent.atomic_files import write_text
from at2po_agent.settings import ConfigError
from at2po_agent.stored_files import read_value, unchanged
from at2po_agent.training.config import TrainConfig
from search_backend.outside import Unusable

WANDB = "wandb.json"  # in a run's directory: project and id of its W&B run
_ENGINE = ("prefilled_tokens", "cached_share", "straddling_turns")


class Logger(Protocol):
    """Where numbers go besides ``metrics.jsonl``."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Record the scalars of a step, as ``scalars`` names them."""
        ...

    def show(self, step: int, texts: Mapping[str, str]) -> None:
        """Record plain texts to read, by name."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


def scalars(metrics: Mapping[str, Any], timings: Mapping[str, float]) -> dict[str, float]:
    """Name the metrics and timings of a step or an evaluation by what they are of; what is not known is left out."""
    named = {_name(name): value for name, value in metrics.items() if value is not None}
    for name, value in timings.items():
        named[f"time/{name}" if name.endswith("per_second") else f"time/{name}_seconds"] = value
    return named


def _name(metric: str) -> str:
    for prefix in ("update", "eval"):
        if metric.startswith(f"{prefix}_"):
            return f"{prefix}/{metric.removeprefix(f'{prefix}_')}"
    return f"engine/{metric}" if metric in _ENGINE else f"rollout/{metric}"


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

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Each under its name."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def show(self, step: int, texts: Mapping[str, str]) -> None:
        """As blocks of code: TensorBoard reads texts as Markdown."""
        for name, text in texts.items():
            self._writer.add_text(name, textwrap.indent(text, "    ", lambda line: True), step)
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class Wandb:
    """A W&B run with the whole configuration; a resumed session goes on in it.

    Rows are placed by ``train/step``: W&B's own step can never go back, as a run does that goes on from a checkpoint,
    and W&B would drop the rows of the steps that are trained again.
    """

    def __init__(self, config: TrainConfig, run: Path) -> None:
        self._wandb: Any = _package("wandb", "log.wandb_project")
        project = config.log.wandb_project
        self._run = self._wandb.init(
            project=project,
            id=_wandb_id(run, project),
            resume="allow",
            name=run.name,
            dir=str(run),
            config=asdict(config),
            # A resumed run may have other limits.
            allow_val_change=True,
        )
        self._run.define_metric("*", step_metric="train/step")

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """One history row."""
        self._run.log({**scalars, "train/step": step})

    def show(self, step: int, texts: Mapping[str, str]) -> None:
        """As HTML in which nothing that was read can be markup."""
        # A file object: W&B could take a string for a path.
        pages = {name: io.StringIO(f"<pre>{html.escape(text)}</pre>") for name, text in texts.items()}
        self._run.log({name: self._wandb.Html(page) for name, page in pages.items()} | {"train/step": step})

    def close(self) -> None:
        """Finish the W&B run."""
        self._run.finish()


def _wandb_id(run: Path, project: str | None) -> str:
    """The id of the W&B run of a run's directory: the stored one, or a new one, which is stored."""
    file = run / WANDB
    try:
        stored = read_value(file, unchanged(dict[str, str | None]))
        if stored["project"] == project:
            return str(stored["id"])
    except FileNotFoundError:
        pass
    except (Unusable, KeyError) as error:
        raise ConfigError(f"{file} cannot be read ({error}): take it away to begin another W&B run") from error
    made = uuid.uuid4().hex[:12]
    write_text(file, json.dumps({"project": project, "id": made}) + "\n")
    return made


def _package(name: str, key: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{key} needs the package {name}: pip install 'at2po[{name}]', or leave {key} out") from error
