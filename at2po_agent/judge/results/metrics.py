"""Summarise an evaluation: a mean with its interval for every metric of its episodes.

The question is the unit. Samples of one question are averaged first, and intervals are over questions
(:mod:`at2po_agent.intervals`). An episode that infrastructure ended has no score: it is counted, and nothing else.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from at2po_agent.intervals import Interval, mean_interval, share_interval
from at2po_agent.judge.episodes.records import EpisodeRecord, total
from at2po_agent.judge.measured import Measure, Measured


@dataclass(frozen=True)
class Prices:
    """Prices of tokens, per million."""

    prompt: float
    completion: float

    @classmethod
    def known(cls, prompt: float | None, completion: float | None) -> Prices | None:
        """None where one of the two is not known."""
        return None if prompt is None or completion is None else cls(prompt, completion)

    def of(self, episode: EpisodeRecord) -> float | None:
        """The cost of one episode; None where its tokens were not counted."""
        return self.of_tokens(episode.prompt_tokens, episode.completion_tokens)

    def of_tokens(self, prompt: int | None, completion: int | None) -> float | None:
        """The cost of so many tokens; None where they were not counted."""
        return (
            None
            if prompt is None or completion is None
            else (prompt * self.prompt + completion * self.completion) / 1e6
        )


SEARCH = Measured()


@dataclass(frozen=True)
class Summary:
    """The numbers of an evaluation, as ``summary.json`` holds them."""

    questions: int  # with a scored episode
    episodes: int  # scored
    errors: int  # ended by infrastructure, never counted as 0
    means: Mapping[
        str, Interval
    ]  # by a name of measured.MEASURES or of a metric, or "cost"; what no episode knows is left out
    pass_at: Mapping[int, Interval] = field(default_factory=dict)  # by k, where questions have several samples
    # Of all episodes, those that ended in an error included: they were paid for. None where one was not counted.
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    cost: float | None = None
    seconds_each: float | None = None  # batch time shared equally, where episodes ran in batches: it has no interval

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self) | {
            "means": {name: dataclasses.asdict(value) for name, value in self.means.items()},
            "pass_at": {str(k): dataclasses.asdict(value) for k, value in self.pass_at.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Summary:
        """Read what ``to_json`` wrote.

        Raises:
            TypeError, KeyError: it is something else.
        """
        known = {entry.name for entry in dataclasses.fields(cls)}
        means = {name: Interval(**value) for name, value in data["means"].items()}
        pass_at = {int(k): Interval(**value) for k, value in data["pass_at"].items()}
        return cls(**{name: data[name] for name in data if name in known} | {"means": means, "pass_at": pass_at})


def summarise(
    episodes: Iterable[EpisodeRecord],
    prices: Prices | None = None,
    *,
    measured: Measured = SEARCH,
    chains: int | None = None,
    batched: bool = False,
) -> Summary:
    """Every mean over the episodes of one run, with its 95 % interval over questions.

    Where questions have several samples the mean of the first metric is mean@k. Where that is a share, ``pass_at``
    holds pass@k for 2, 4, … and the most samples that a question has.

    Args:
        episodes: of the run.
        prices: where they are known.
        measured: what the episodes are measured by.
        chains: that the tree of a question began with, where the episodes are paths of trees (see ``samples``).
        batched: whether episodes ran in batches, which have one time together, so that no episode has one of its own.
    """
    seen = list(episodes)
    questions = by_question(samples(seen, chains))
    measures = measured.measures | ({"cost": prices.of} if prices else {})
    means = {}
    for name, measure in measures.items():
        values = question_means(questions.values(), measure)
        if values and not (batched and name == "seconds"):
            share = name != "cost" and measured.metric(name).share
            means[name] = share_interval(values) if share else mean_interval(values)
    prompt_tokens = total(episode.prompt_tokens for episode in seen)
    completion_tokens = total(episode.completion_tokens for episode in seen)
    return Summary(
        questions=len(questions),
        episodes=sum(map(len, questions.values())),
        errors=sum(episode.error is not None for episode in seen),
        means=means,
        pass_at=_pass_at(list(questions.values())) if measured.first.share else {},
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost=prices.of_tokens(prompt_tokens, completion_tokens) if prices else None,
        seconds_each=fmean(episode.seconds for episode in seen) if batched and seen else None,
    )


def samples(episodes: Iterable[EpisodeRecord], chains: int | None) -> list[EpisodeRecord]:
    """The episodes that are independent samples of their questions: all, or of trees the chains that these began with.

    Branches share turns with a chain and were chosen by its entropy, and how many further chains there are depends on
    what the first ones took: a mean over all paths is one of no policy.

    Args:
        episodes: of an evaluation.
        chains: that each tree began with; None where nothing was grown.
    """
    return [episode for episode in episodes if chains is None or episode.sample < chains]


def by_question(episodes: Iterable[EpisodeRecord]) -> dict[str, list[EpisodeRecord]]:
    """The scored episodes of every question that has one, in the order in which questions first appear."""
    found: dict[str, list[EpisodeRecord]] = {}
    for episode in episodes:
        if episode.error is None:
            found.setdefault(episode.question_id, []).append(episode)
    return found


def question_means(questions: Iterable[Sequence[EpisodeRecord]], measure: Measure) -> list[float]:
    """One value per question: the mean over its samples of what is known; questions without one are left out."""
    known = ([value for value in map(measure, samples) if value is not None] for samples in questions)
    return [fmean(values) for values in known if values]


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The chance that one of ``k`` samples is correct, estimated without bias from more: 1 − C(n − c, k) / C(n, k).

    Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1, https://arxiv.org/abs/2107.03374.

    Raises:
        ValueError: ``k`` is not from 1 to ``samples``, or ``correct`` not from 0 to ``samples``.
    """
    if not 1 <= k <= samples or not 0 <= correct <= samples:
        raise ValueError(f"pass@{k} cannot be estimated from {samples} samples with {correct} correct")
    return 1 - math.comb(samples - correct, k) / math.comb(samples, k)


def _pass_at(questions: Sequence[Sequence[EpisodeRecord]]) -> dict[int, Interval]:
    most = max(map(len, questions), default=0)
    if most < 2:
        return {}
    found = {}
    for k in sorted({most, *(2**power for power in range(1, most.bit_length()) if 2**power < most)}):
        enough = [samples for samples in questions if len(samples) >= k]  # a question may have lost some to errors
        values = [pass_at_k(len(samples), sum(episode.score == 1 for episode in samples), k) for samples in enough]
        found[k] = share_interval(values)
    return found
