"""What a run came to: greedy exact match per question before and after, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Scores:
    """One greedy evaluation, question by question; the tuples run over the same questions in the same order."""

    step: int  # training steps before it
    ids: tuple[str, ...]  # of the questions that were scored; one that infrastructure kept from a score is left out
    em: tuple[float, ...]  # exact match, 0 or 1
    groups: tuple[str, ...]  # what a summary splits by: "1 hop", "2 hops", a type; "" for none
    means: Mapping[str, float] = field(default_factory=dict)  # f1, searches, … for the display and the log
    source: str = ""  # dataset and split that the questions are of: a result on a demo says so

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.em) == len(self.groups):
            raise ValueError(f"{len(self.ids)} ids, {len(self.em)} scores and {len(self.groups)} groups do not match")


@dataclass(frozen=True)
class Result:
    """What ``train`` returns, also when it was stopped before its end."""

    steps: int  # done in all, those before a resume included
    seconds: float  # of training: rollout, credit and update; no evaluation, no loading
    generated_tokens: int  # sampled by the policy in training
    trees: int  # grown; ``dropped`` of them had fewer than two scored leaves
    dropped: int = 0
    before: Scores | None = None  # None where evaluation is off
    after: Scores | None = None
    checkpoint: Path | None = None  # the last one written
    stopped: bool = False  # by a signal, before its limits
