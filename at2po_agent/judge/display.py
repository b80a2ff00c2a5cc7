"""Progress of an evaluation: a live line in a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from rich.console import Console

from at2po_agent.intervals import mean_interval, share_interval
from at2po_agent.judge.episodes.records import EpisodeRecord, cut, total
from at2po_agent.judge.measured import Measured
from at2po_agent.rollouts.grow import TokenLimits
from at2po_agent.terminal import Screen, amount, counted, percent
from at2po_agent.training.display import clock
from at2po_env.tasks import Metric

PLAIN_SECONDS = 10.0  # between lines that nobody redraws
_REDRAW_SECONDS = 0.5
_REASONS = 5  # of errors that are said; every episode's own is in its record

_EXACT_MATCH = Measured().first


class EvaluationDisplay(Screen):
    """Episodes done, the first metric with its interval, tokens per second, errors and time left; a context manager.

    Args:
        title: what is evaluated.
        total: episodes in all.
        console: where to.
        now: seconds, monotonic.
        chains: that trees begin with, where episodes are paths of trees: the metric is of these.
        metric: that results are quoted in.
    """

    def __init__(
        self,
        title: str,
        total: int,
        console: Console | None = None,
        now: Callable[[], float] = time.monotonic,
        chains: int | None = None,
        metric: Metric = _EXACT_MATCH,
    ) -> None:
        super().__init__(console)
        self._title, self._total, self._now, self._chains, self._metric = title, total, now, chains, metric
        self._scores: dict[str, list[float]] = {}
        self._errors = self._done = self._fresh = 0
        self._tokens: int | None = 0
        self._reasons: set[str] = set()
        self._started, self._shown_at = now(), now()
        self._bar = self._bars.add_task(title, total=total)

    def __exit__(self, *exc: object) -> None:
        if self._live.is_started:
            self._numbers.plain = self.line()
        super().__exit__(*exc)

    def earlier(self, records: Iterable[EpisodeRecord]) -> None:
        """Episodes that were finished before this process began: counted, but not in the speed."""
        for record in records:
            if record.error is None:
                self._add(record)
        self._bars.update(self._bar, completed=self._done)

    def finished(self, records: Sequence[EpisodeRecord]) -> None:
        """Episodes ended, together where they ran as a batch."""
        for record in records:
            self._add(record)
            self._say_reason(record)
            self._tokens = total((self._tokens, record.completion_tokens))
        self._fresh += len(records)
        self._bars.update(self._bar, completed=self._done)
        now = self._now()
        if now - self._shown_at >= (_REDRAW_SECONDS if self._live.is_started else PLAIN_SECONDS):
            self._shown_at = now
            if self._live.is_started:
                self._numbers.plain = self.line()
            else:
                self.note(f"{self._title}: {self._done}/{self._total}  {self.line()}", progress=True)

    def line(self) -> str:
        """The numbers so far."""
        seconds = max(self._now() - self._started, 1e-9)
        left = (self._total - self._done) * seconds / self._fresh if self._fresh else float("inf")
        speed = [] if self._tokens is None else [f"{self._tokens / seconds:,.0f} tokens/s"]
        parts = [*speed, f"{self._errors} errors", f"{clock(left)} left"]
        if self._scores:
            interval, form = (share_interval, percent) if self._metric.share else (mean_interval, amount)
            score = interval([fmean(values) for values in self._scores.values()])
            parts.insert(0, f"{self._metric} {form(score.mean)} [{form(score.low)}, {form(score.high)}]")
        return "  ".join(parts)

    def say_cut(self, records: Iterable[EpisodeRecord], limits: TokenLimits) -> None:
        """Say how many scored episodes have a turn that a token limit cut before its action."""
        scored = [record for record in records if record.error is None]
        number = sum(map(cut, scored))
        if number:
            self.note(
                f"{number:,} of {counted(len(scored), 'episode')} had a turn cut at the token limit before its action, "
                f"which is not counted as malformed: raise limits.max_turn_tokens={limits.max_turn_tokens} "
                f"(limits.max_response_tokens={limits.max_response_tokens} bounds all turns together)"
            )

    def _say_reason(self, record: EpisodeRecord) -> None:
        """Why an episode has no score, once for a reason."""
        if record.error is not None and record.error not in self._reasons and len(self._reasons) < _REASONS:
            self._reasons.add(record.error)
            self.note(f"error, {record.question_id}: {record.error}")

    def _add(self, record: EpisodeRecord) -> None:
        self._done += 1
        if record.error is not None or record.score is None:
            self._errors += 1
        elif self._chains is None or record.sample < self._chains:
            self._scores.setdefault(record.question_id, []).append(record.score)
