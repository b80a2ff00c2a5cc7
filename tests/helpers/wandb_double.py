"""The part of the package ``wandb`` that a run calls, as a module that keeps what it was told."""

from __future__ import annotations

from typing import Any, TextIO


class Html:
    def __init__(self, data: TextIO) -> None:
        self.page = data.read()


class WandbError(Exception):
    """``wandb.Error``, the base of what ``init`` raises."""


class WandbDouble:
    """Stands in ``sys.modules``; one W&B run per id, which a second ``init`` of that id goes on with."""

    Html = Html
    Error = WandbError

    def __init__(self) -> None:
        self.inits: list[dict[str, Any]] = []
        self.runs: dict[str, WandbRun] = {}
        self.refusal = ""

    def init(self, **settings: Any) -> WandbRun:
        if self.refusal:
            raise WandbError(self.refusal)
        self.inits.append(settings)
        assert settings["id"] not in self.runs or settings["resume"] == "allow"
        return self.runs.setdefault(settings["id"], WandbRun())


class WandbRun:
    """A history in which places only grow: what is told of an earlier one is dropped, as W&B does."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.step = 0
        self.dropped = 0
        self.step_metrics: dict[str, str | None] = {}
        self.finished = 0
        self._places: list[int] = []

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        assert not name.rstrip("*").count("*")
        self.step_metrics[name] = step_metric

    def log(self, row: dict[str, Any], step: int, commit: bool) -> None:
        # Without commit W&B holds a row until the next one, and a kill loses it.
        assert commit
        if step < self.step:
            self.dropped += 1
            return
        self.rows.append(row)
        self._places.append(step)
        self.step = step + 1

    def lose(self, rows: int) -> None:
        """Forget the last rows, as where a kill came before they were sent."""
        del self.rows[-rows:], self._places[-rows:]
        self.step = self._places[-1] + 1 if self._places else 0

    def finish(self) -> None:
        self.finished += 1
