"""The part of the package ``wandb`` that a run calls, as a module that keeps what it was told."""

from __future__ import annotations

from typing import Any, TextIO


class Html:
    def __init__(self, data: TextIO) -> None:
        self.page = data.read()


class WandbDouble:
    """Stands in ``sys.modules``; one W&B run per id, which a second ``init`` of that id goes on with."""

    Html = Html

    def __init__(self) -> None:
        self.inits: list[dict[str, Any]] = []
        self.runs: dict[str, WandbRun] = {}

    def init(self, **settings: Any) -> WandbRun:
        self.inits.append(settings)
        assert settings["id"] not in self.runs or settings["resume"] == "allow"
        return self.runs.setdefault(settings["id"], WandbRun())


class WandbRun:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.step_metrics: dict[str, str] = {}
        self.finished = 0

    def define_metric(self, name: str, step_metric: str) -> None:
        self.step_metrics[name] = step_metric

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def finish(self) -> None:
        self.finished += 1
