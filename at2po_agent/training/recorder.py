"""Record a run: its directory, its display and its loggers behind one interface.

Of several processes the first one records; the others are at the same place of the same program and say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from at2po_agent.training.continuation import changed_code, check_unchanged, describe_session, missing_files
from at2po_agent.training.display import Display
from at2po_agent.training.loggers import History, Logger, open_loggers, row
from at2po_agent.training.metrics import Scores
from at2po_agent.training.run_dir import RunDirectory, read_trees, step_of, tree_files
from at2po_agent.training.stored_trees import examples


class Recorder:
    """The interface that the trainer reports to. This one, for processes other than the first, records nothing."""

    def __init__(self, path: Path) -> None:
        """Hold ``path``, the run directory."""
        self.path = path
        self.accepted: list[str] = []  # changes that the run went on with, each in words; see ``check_unchanged``

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""

    def check(self, manifest: Mapping[str, Any]) -> None:
        """Refuse to go on with a run that worked with something else than this ``manifest`` of a session."""

    def session(self, manifest: Mapping[str, Any], step: int) -> None:
        """A session begins after ``step`` steps, with what its ``manifest`` names."""

    def begin(self, step: int) -> None:
        """The run goes on from ``step``, −1 where there is no checkpoint: what was recorded after it is forgotten."""

    def step(
        self, step: int, metrics: Mapping[str, Any], timings: Mapping[str, float], seconds: float, tokens: int
    ) -> None:
        """A step is done; the run has trained for ``seconds`` in all and generated ``tokens``."""

    def steps(self) -> list[dict[str, Any]]:
        """The metrics of every step that is recorded."""
        return []

    def trees(self, step: int, records: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        """The trees of a step, in case that they are stored."""

    def evaluating(self, questions: int) -> None:
        """An evaluation begins, with so many questions in this process."""

    def evaluated(self) -> None:
        """One more of its questions is done."""

    def evaluation(self, scores: Scores, seconds: float) -> None:
        """An evaluation is done."""

    def left(self, step: int) -> None:
        """An evaluation was given up, because of a stop."""

    def is_evaluated(self, step: int) -> bool:
        """Whether an evaluation of this step is recorded."""
        return False

    def close(self) -> None:
        """Write what is left."""


class RunRecorder(Recorder):
    """Writes a run directory, draws on a display, and tells the loggers of the configuration."""

    def __init__(self, run: RunDirectory, display: Display) -> None:
        super().__init__(run.path)
        self.run, self.display = run, display
        self._loggers: list[Logger] = []

    def note(self, text: str) -> None:
        """A line."""
        self.display.note(text)

    def check(self, manifest: Mapping[str, Any]) -> None:
        """Compare it with the last entry of ``manifest.json``; changes that were accepted ever are shown, each a line.

        Raises:
            RunDirError: something has changed, and it was not accepted.
        """
        sessions = self.run.sessions()
        if not sessions:
            return
        before, now = sessions[-1], describe_session(manifest, self.run.config)
        self.accepted = [*before.get("accepted", ()), *check_unchanged(self.path, before, now, self.run.accept)]
        for text in self.accepted:
            self.note(f"continuing with an accepted change of {text}")
        if code := changed_code(before, now):
            self.note(f"the code has changed since the run was last started: {', '.join(code)}")

    def session(self, manifest: Mapping[str, Any], step: int) -> None:
        """One more entry of ``manifest.json``."""
        accepted = {"accepted": self.accepted} if self.accepted else {}
        self.run.add_session({**describe_session(manifest, self.run.config), "from_step": step, **accepted})

    def begin(self, step: int) -> None:
        """Open the loggers, once a directory that already has later steps has forgotten them."""
        if self.run.resumed:
            self.run.rewind(step)
            for text in missing_files(self.path, self.run.sessions(), step):
                self.note(text)
        self._loggers = open_loggers(self.run.config, self.run.path, step + 1, self._history())

    def step(
        self, step: int, metrics: Mapping[str, Any], timings: Mapping[str, float], seconds: float, tokens: int
    ) -> None:
        """A line of ``metrics.jsonl``."""
        self.run.log(step, metrics, timings)
        self._log(step, metrics, timings)
        self.display.step(step, {**metrics, **timings}, seconds, tokens)

    def steps(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl`` that are no evaluations, without their timings."""
        lines = (line for line in self.run.metrics() if "eval_questions" not in line)
        return [{name: value for name, value in line.items() if name != "time"} for line in lines]

    def trees(self, step: int, records: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        """Stored as ``log.trees_every`` says; every ``log.examples_every``, from step 1 on, the loggers get one."""
        log = self.run.config.log
        stored = log.stores_trees(step)
        shown = bool(self._loggers and self._is_example(step))
        made = list(records()) if stored or shown else []
        if stored:
            self.run.save_trees(step, made)
        if shown and made:
            texts = examples(made)
            for logger in self._loggers:
                logger.show(step, texts)

    def evaluating(self, questions: int) -> None:
        """A progress bar."""
        self.display.phase("evaluation", total=questions)

    def evaluated(self) -> None:
        """It moves on."""
        self.display.advance()

    def evaluation(self, scores: Scores, seconds: float) -> None:
        """A line of ``metrics.jsonl``, and every question's score."""
        repeated = self.run.is_evaluated(scores.step)
        means = self.run.log_evaluation(scores.step, scores, seconds)
        # Where a line is replaced, the loggers keep the one that they have.
        if not repeated:
            self._log(scores.step, means, {"eval": seconds})
        self.display.evaluation(scores)

    def left(self, step: int) -> None:
        """A line in place of the progress bar."""
        self.display.end_phase()
        self.note(f"the evaluation after step {step} was interrupted; it is repeated when the run is resumed")

    def is_evaluated(self, step: int) -> bool:
        """As ``metrics.jsonl`` says."""
        return self.run.is_evaluated(step)

    def close(self) -> None:
        """Close the loggers."""
        for logger in self._loggers:
            logger.close()

    def _log(self, step: int, metrics: Mapping[str, Any], timings: Mapping[str, float]) -> None:
        for logger in self._loggers:
            logger.log(row(step, metrics, timings))

    def _history(self) -> History:
        """The lines of ``metrics.jsonl``, and texts of the trees that are stored."""
        files = {step_of(file): file for file in tree_files(self.path)}

        def texts(step: int) -> Mapping[str, str]:
            records = read_trees(files[step]) if self._is_example(step) and step in files else []
            return examples(records) if records else {}

        return History(
            tuple(row(line.pop("step"), line, line.pop("time", {})) for line in self.run.metrics()),
            texts,
        )

    def _is_example(self, step: int) -> bool:
        every = self.run.config.log.examples_every
        return bool(every and (step - 1) % every == 0)
