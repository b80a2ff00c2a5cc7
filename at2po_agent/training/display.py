"""What a run shows while it runs: a live display in a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import TaskID

from at2po_agent.terminal import Screen
from at2po_agent.training.metrics import Scores

# metric, label, format; a metric that a step does not have is left out
SHOWN = (
    ("reward", "reward", "{:+.3f}"),
    ("em", "EM", "{:.1%}"),
    ("entropy", "entropy", "{:.3f}"),
    ("tokens_per_second", "tokens/s", "{:,.0f}"),
)


class Display(Screen):
    """Progress, reward, EM, entropy, tokens/s and time left of a run; use it as a context manager.

    In a terminal one block is redrawn in place and evaluations and notes stay above it. Without one every step,
    phase, evaluation and note is a line.
    """

    def __init__(
        self,
        steps: int,
        max_seconds: float | None = None,
        console: Console | None = None,
        *,
        max_tokens: int | None = None,
    ) -> None:
        """A display for at most ``steps`` steps, ``max_seconds`` seconds of training and ``max_tokens`` generated."""
        super().__init__(console)
        self._steps, self._max_seconds, self._max_tokens = steps, max_seconds, max_tokens
        self._run = self._bars.add_task("training", total=steps)
        self._phase: TaskID | None = None

    def step(self, step: int, metrics: Mapping[str, Any], seconds: float, tokens: int = 0) -> None:
        """Show a finished step.

        Args:
            step: steps done in all.
            metrics: of the step; those of ``SHOWN`` that it has are shown.
            seconds: of training so far.
            tokens: generated in training so far.
        """
        known = [(name, label, form) for name, label, form in SHOWN if metrics.get(name) is not None]
        parts = [f"{label} {form.format(metrics[name])}" for name, label, form in known]
        parts.append(f"{clock(self._left(step, seconds, tokens))} left")
        self._bars.update(self._run, completed=step)
        if self._live.is_started:
            self._numbers.plain = "  ".join(parts)
        else:
            self.note(f"step {step}/{self._steps}  " + "  ".join(parts))

    def phase(self, what: str, total: int | None = None) -> None:
        """Say what is happening beside training steps, such as an evaluation of ``total`` questions."""
        self.end_phase()
        if self._live.is_started:
            self._phase = self._bars.add_task(what, total=total)
        else:
            self.note(f"{what} …")

    def advance(self, n: int = 1) -> None:
        """``n`` more units of the phase are done."""
        if self._phase is not None:
            self._bars.advance(self._phase, n)

    def end_phase(self) -> None:
        """The phase is over."""
        if self._phase is not None:
            self._bars.remove_task(self._phase)
            self._phase = None

    def evaluation(self, scores: Scores) -> None:
        """Show an evaluation: the mean of its metric with the 95 % interval."""
        self.end_phase()
        if not scores.values:
            self.note(f"evaluation after step {scores.step}: no question was scored")
            return
        mean = scores.interval()
        of = f" of {scores.source}" if scores.source else ""
        more = "".join(f"  {name} {value:.3g}" for name, value in scores.means.items())
        self.note(
            f"evaluation after step {scores.step}: {scores.title} {scores.shown(mean.mean)} "
            f"[{scores.shown(mean.low)}, {scores.shown(mean.high)}] over {mean.n} questions{of}{more}"
        )

    def _left(self, step: int, seconds: float, tokens: int) -> float:
        """Until the limit that comes first, at the pace so far."""
        left = [seconds / step * (self._steps - step) if step else math.inf]
        if self._max_seconds is not None:
            left.append(self._max_seconds - seconds)
        if self._max_tokens is not None and tokens:
            left.append(seconds / tokens * (self._max_tokens - tokens))
        return min(left)


def clock(seconds: float) -> str:
    """``1:02:03``, ``2:03``, or ``?`` for a time that is not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
