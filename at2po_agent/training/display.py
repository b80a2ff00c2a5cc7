"""Progress of a training run: a live display in a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping
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
_BARS = "▁▂▃▄▅▆▇█"
_SPARKS = 30  # steps that the sparkline shows


class Display(Screen):
    """Progress, reward, EM, entropy, tokens/s and time left of a run; use it as a context manager.

    In a terminal one block is redrawn in place and evaluations and notes stay above it: a bar of the limit that will
    end the run, the numbers of the last step, the rewards of the last steps and the last evaluation. Without one every
    step, phase, evaluation and note is a line.
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
        self._run = self._bars.add_task("training, steps", total=steps)
        self._phase: TaskID | None = None
        self._rewards: deque[float] = deque(maxlen=_SPARKS)
        self._evaluated = ""

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
        left, unit, done, total = min(self._limits(step, seconds, tokens), key=lambda limit: limit[0])
        parts.append(f"{clock(left)} left")
        if metrics.get("reward") is not None:
            self._rewards.append(metrics["reward"])
        self._bars.update(self._run, description=f"training, {unit}", completed=round(done), total=round(total))
        if self._live.is_started:
            if unit != "steps":
                parts.insert(0, f"step {step}")
            lines = ["  ".join(parts)]
            if len(self._rewards) > 1:
                lines.append(
                    f"rewards {sparkline(self._rewards)}  {min(self._rewards):+.3f} to {max(self._rewards):+.3f}"
                )
            self._numbers.plain = "\n".join([*lines, self._evaluated] if self._evaluated else lines)
        else:
            self.note(f"step {step}/{self._steps}  " + "  ".join(parts), progress=True)

    def phase(self, what: str, total: int | None = None) -> None:
        """Say what is happening beside training steps, such as an evaluation of ``total`` tasks."""
        self.end_phase()
        if self._live.is_started:
            self._phase = self._bars.add_task(what, total=total)
        else:
            self.note(f"{what} …", progress=True)

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
            self.note(f"evaluation after step {scores.step}: no {scores.task_word} was scored", progress=True)
            return
        mean = scores.interval()
        of = f" of {scores.source}" if scores.source else ""
        more = "".join(f"  {name} {value:.3g}" for name, value in scores.means.items())
        shown = f"{scores.title} {scores.shown(mean.mean)} [{scores.shown(mean.low)}, {scores.shown(mean.high)}]"
        self._evaluated = f"evaluation after step {scores.step}: {shown}"
        self.note(f"{self._evaluated} over {mean.n} {scores.task_word}s{of}{more}", progress=True)

    def _limits(self, step: int, seconds: float, tokens: int) -> list[tuple[float, str, float, float]]:
        """Every limit as (seconds until it at the pace so far, unit, done, total); steps first among equals."""
        until_steps = seconds / step * (self._steps - step) if step else math.inf
        limits: list[tuple[float, str, float, float]] = [(until_steps, "steps", step, self._steps)]
        if self._max_seconds is not None:
            limits.append((self._max_seconds - seconds, "seconds", seconds, self._max_seconds))
        if self._max_tokens is not None and tokens:
            limits.append((seconds / tokens * (self._max_tokens - tokens), "tokens", tokens, self._max_tokens))
        return limits


def sparkline(values: Collection[float]) -> str:
    """One block a value, from ▁ for the least to █ for the greatest; finite values only, and one at least."""
    low, high = min(values), max(values)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)


def clock(seconds: float) -> str:
    """``1:02:03``, ``2:03``, or ``?`` for a time that is not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
