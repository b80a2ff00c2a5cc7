"""Metrics and examples to TensorBoard and Weights & Biases, through their own packages, where they are asked for.

There a scalar's name says what it is of: ``rollout/entropy``, ``engine/prefilled_tokens``, ``update/loss``,
``eval/em``, ``time/step_seconds``. In ``metrics.jsonl`` the same numbers have the keys of ``training.metrics``.
"""

from __future__ import annotations

import html
import importlib
import io
import json
import math
import textwrap
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from at2po_agent.atomic_files import write_text
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import TrainConfig
from at2po_agent.training.stored_files import read_value, unchanged
from search_backend.outside import Unusable

WANDB = "wandb.json"  # in a run's directory: project and id of its W&B run
# Rows of a step in W&B, in the order in which they come.
_EXAMPLES, _NUMBERS, _EVALUATION = range(3)

# Groups of the metrics whose own names do not begin with one.
GROUPS = {
    "rollout": (
        *("reward", "em", "f1", "success", "entropy", "turns", "searches", "malformed"),
        *("leaves", "trees", "trees_with_signal"),
        *("trees_dropped", "leaves_dropped", "questions_dropped", "paths_lost", "groups_equal", "groups_surplus"),
        *("unused_tokens", "unique_tokens", "generated_tokens", "calls"),
    ),
    "engine": ("prefilled_tokens", "cached_share", "staleness", "straddling_turns"),
}
_GROUP_OF = {metric: group for group, metrics in GROUPS.items() for metric in metrics}


@dataclass(frozen=True)
class Row:
    """The numbers of a step or of an evaluation, under names that say what they are of."""

    step: int
    evaluation: bool
    scalars: Mapping[str, float]


def _no_texts(step: int) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class History:
    """Metrics recorded before a session; a logger that lacks some, as after a kill, is given them."""

    rows: tuple[Row, ...] = ()  # in the order of their steps, a step's before its evaluation's
    texts: Callable[[int], Mapping[str, str]] = field(default=_no_texts)  # of a step, to show; none where none are


def row(step: int, metrics: Mapping[str, float | None], timings: Mapping[str, float]) -> Row:
    """Name the numbers of a step or an evaluation.

    Args:
        step: that they are of.
        metrics: as ``RunDirectory.log`` has them; what is unknown or not finite is left out, there as here.
        timings: in seconds, or per second.
    """
    known = {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}
    named = {_name(name): value for name, value in known.items()}
    for name, value in timings.items():
        named[f"time/{name}" if name.endswith("per_second") else f"time/{name}_seconds"] = value
    return Row(step, "eval_questions" in metrics, named)


def _name(metric: str) -> str:
    for prefix in ("update", "eval"):
        if metric.startswith(f"{prefix}_"):
            return f"{prefix}/{metric.removeprefix(f'{prefix}_')}"
    # A run of another version can have metrics that this one does not know; of its own there are none.
    return f"{_GROUP_OF.get(metric, 'other')}/{metric}"


class Logger(Protocol):
    """A destination of metrics besides ``metrics.jsonl``."""

    def log(self, row: Row) -> None:
        """Record the numbers of a step or an evaluation."""
        ...

    def show(self, step: int, texts: Mapping[str, str]) -> None:
        """Record plain texts to read, by name."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


def open_loggers(config: TrainConfig, run: Path, first_step: int, history: History | None = None) -> list[Logger]:
    """The loggers that ``config.log`` names.

    Args:
        config: a run's configuration.
        run: its directory.
        first_step: the first step that will be logged; what TensorBoard has of it and of later ones is hidden.
        history: all of earlier steps.

    Raises:
        ConfigError: a package is not installed, or W&B does not open the run; the message says what to do.
    """
    loggers: list[Logger] = []
    history = history or History()
    if config.log.tensorboard:
        loggers.append(TensorBoard(run / "tensorboard", first_step, history))
    if config.log.wandb_project:
        loggers.append(Wandb(config, run, history))
    return loggers


class TensorBoard:
    """Event files in the run directory."""

    def __init__(self, folder: Path, first_step: int, history: History) -> None:
        _package("tensorboard", "log.tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        held = _held(folder)
        lacked = (row.step for row in history.rows if not all((name, row.step) in held for name in row.scalars))
        # Readers take steps in their order alone: from the first that is lacked, all are written again.
        purged = min(lacked, default=first_step)
        self._writer: Any = SummaryWriter(str(folder), purge_step=purged)
        for row in history.rows:
            if row.step >= purged:
                if not row.evaluation:
                    self.show(row.step, history.texts(row.step))
                self.log(row)

    def log(self, row: Row) -> None:
        """One scalar each."""
        for name, value in row.scalars.items():
            self._writer.add_scalar(name, value, row.step)
        self._writer.flush()

    def show(self, step: int, texts: Mapping[str, str]) -> None:
        """As blocks of code: TensorBoard reads texts as Markdown."""
        for name, text in texts.items():
            self._writer.add_text(name, textwrap.indent(text, "    ", lambda line: True), step)
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


def _held(folder: Path) -> set[tuple[str, int]]:
    """Names and steps of the scalars that the event files of a folder have."""
    if not folder.is_dir():
        return set()
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    # 0: every one, where the default is a sample.
    events: Any = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
    events.Reload()
    return {(name, event.step) for name in events.Tags()[SCALARS] for event in events.Scalars(name)}


class Wandb:
    """A W&B run with the whole configuration; a resumed session goes on in it.

    W&B numbers rows itself, and takes none back: a step has the places of its examples, its numbers and its evaluation
    in this order, and what comes to a place before the next free one is there already. Of steps that are trained again
    after a kill it keeps the rows that it has. The axis of its charts is ``train/step``.
    """

    def __init__(self, config: TrainConfig, run: Path, history: History) -> None:
        self._wandb: Any = _package("wandb", "log.wandb_project")
        project = config.log.wandb_project
        try:
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
        except self._wandb.Error as error:
            raise ConfigError(
                f"log.wandb_project={project}: W&B did not open the run: {error}. Log in with `wandb login`, set "
                f"WANDB_MODE=offline, remove {run / WANDB} to start a new W&B run, or leave this setting out"
            ) from error
        self._run.define_metric("train/step")
        self._run.define_metric("*", step_metric="train/step")
        for row in history.rows:
            if not row.evaluation and self._lacks(row.step, _EXAMPLES):
                self.show(row.step, history.texts(row.step))
            self.log(row)

    def log(self, row: Row) -> None:
        """One row of its history."""
        self._add(row.step, _EVALUATION if row.evaluation else _NUMBERS, row.scalars)

    def show(self, step: int, texts: Mapping[str, str]) -> None:
        """As HTML in which nothing that was read can be markup."""
        # A file object: W&B could take a string for a path.
        pages = {name: io.StringIO(f"<pre>{html.escape(text)}</pre>") for name, text in texts.items()}
        self._add(step, _EXAMPLES, {name: self._wandb.Html(page) for name, page in pages.items()})

    def close(self) -> None:
        """Finish the W&B run."""
        self._run.finish()

    def _lacks(self, step: int, part: int) -> bool:
        return bool(_place(step, part) >= self._run.step)

    def _add(self, step: int, part: int, values: Mapping[str, Any]) -> None:
        if values and self._lacks(step, part):
            self._run.log({**values, "train/step": step}, step=_place(step, part), commit=True)


def _place(step: int, part: int) -> int:
    return 3 * step + part


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
        raise ConfigError(f"{file} cannot be read ({error}): remove it to start a new W&B run") from error
    made = uuid.uuid4().hex[:12]
    write_text(file, json.dumps({"project": project, "id": made}) + "\n")
    return made


def _package(name: str, key: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{key} needs the package {name}: pip install 'at2po[{name}]', or leave {key} out") from error
