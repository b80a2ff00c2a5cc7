"""The record of an episode: one JSON line of ``episodes.jsonl``, flushed when the episode ends."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict
from typing_extensions import TypedDict

from at2po_agent.errors import AgentError
from at2po_agent.training.stored_files import Count, Number, Share, fitting, read_lines, unchanged
from search_backend.outside import Unusable

EPISODES = "episodes.jsonl"
_OF_SEARCH = ("em", "f1", "contains", "gold_titles", "recall", "searches")  # fields that other tasks leave out


class RecordError(AgentError):
    """A line of an episodes file cannot be used; the message names file and line."""


class _Action(TypedDict, total=False):
    kind: str  # search, answer, malformed
    content: str | None
    why: str | None


class _Hit(TypedDict, total=False):
    id: str
    title: str
    score: Number | None


class _Message(TypedDict):
    role: str
    content: NotRequired[str | None]


_EXACT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class TurnRecord:
    """One turn: what the model wrote, how it was read, and what came back."""

    __pydantic_config__ = _EXACT

    text: str  # as the environment read it
    action: Annotated[Mapping[str, Any], AfterValidator(unchanged(_Action))]
    observation: str  # what the model read next; empty after the last turn
    # Best first.
    hits: tuple[Annotated[Mapping[str, Any], AfterValidator(unchanged(_Hit))], ...] = ()
    reasoning: str = ""  # what a reasoning model thought apart from its message
    prompt_tokens: Count | None = 0  # as the server counted; None: it did not
    completion_tokens: Count | None = 0
    seconds: Number = 0.0  # from the request to the whole answer, without retries
    finish: str = ""  # stop, eos, length


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode of one task; ``error`` is set where infrastructure ended it, and then nothing is scored.

    Search questions have their scores in fields of their own, as evaluations had them before there were other tasks;
    every other task has ``metrics``.
    """

    __pydantic_config__ = _EXACT

    question_id: str
    sample: Count  # 0 to r - 1
    question: str
    answers: tuple[str, ...]  # gold, with aliases
    ended: str  # answer, malformed, search_limit, turn_limit, length_limit; error
    prediction: str | None = None
    em: Share | None = None
    f1: Share | None = None
    contains: Share | None = None
    gold_titles: tuple[str, ...] = ()  # of the passages that hold the answer, where the benchmark names them
    recall: Share | None = None  # share of the gold titles among the titles that were found
    searches: Count = 0
    seconds: Number = 0.0  # wall time of the episode, waits and retries included
    error: str | None = None
    logprob: Number | None = None  # mean over all generated tokens, nats; of the paths of --tree
    prompt: str = ""  # what the model read first
    turns: tuple[TurnRecord, ...] = ()
    # The conversation in chat format, as it was sent; empty for token policies.
    messages: tuple[Annotated[Mapping[str, Any], AfterValidator(unchanged(_Message))], ...] = ()
    metrics: Mapping[str, Number] = field(default_factory=dict)  # the environment's, in its order

    @property
    def measured(self) -> Mapping[str, float | None]:
        """The metrics of the environment; the first one is the one that results are quoted in."""
        search = {"em": self.em, "f1": self.f1, "contains": self.contains, "recall": self.recall}
        return self.metrics or {**search, "searches": self.searches}

    @property
    def score(self) -> float | None:
        """The first metric; None where nothing was scored."""
        return next(iter(self.measured.values()))

    @property
    def key(self) -> tuple[str, int]:
        """The identity of an episode within its run."""
        return self.question_id, self.sample

    @property
    def prompt_tokens(self) -> int | None:
        """Of all requests together; None where one was not counted."""
        return total(turn.prompt_tokens for turn in self.turns)

    @property
    def completion_tokens(self) -> int | None:
        """Generated in all turns; None where one was not counted."""
        return total(turn.completion_tokens for turn in self.turns)

    def to_line(self) -> str:
        """The record as one line of JSON, with its line feed."""
        stored = dataclasses.asdict(self)
        for name in _OF_SEARCH if self.metrics else ("metrics",):
            del stored[name]
        return json.dumps(stored, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EpisodeRecord:
        """Read what ``to_line`` wrote.

        Raises:
            Unusable: it is no object, or a field is missing, unknown or not what it has to be.
        """
        return fitting(data, cls)


def read_episodes(run: Path) -> Iterator[EpisodeRecord]:
    """The finished episodes of a run, in file order; a later line of a question and sample replaces an earlier one.

    A last line without its line feed was torn by a kill and is left out: that episode is run again.

    Raises:
        RecordError: there is no episodes file, or a whole line of it cannot be read.
    """
    found: dict[tuple[str, int], EpisodeRecord] = {}
    try:
        for record in read_lines(run / EPISODES, EpisodeRecord.from_json, "an episode record"):
            found[record.key] = record
    except FileNotFoundError:
        raise RecordError(f"{run} has no {EPISODES}: it is not the directory of an evaluation") from None
    except Unusable as error:
        raise RecordError(f"{error}; restore the file, or remove this line to run that episode again") from error
    yield from found.values()


def in_order(episodes: Iterable[EpisodeRecord], questions: Sequence[str]) -> list[EpisodeRecord]:
    """Episodes in the order of the evaluation's questions and of their samples, whichever ended first."""
    place = {id_: number for number, id_ in enumerate(questions)}
    return sorted(episodes, key=lambda one: (place.get(one.question_id, len(place)), one.sample))


def total(counts: Iterable[int | None]) -> int | None:
    """The sum; None where a count is not known."""
    found = list(counts)
    known = [count for count in found if count is not None]
    return sum(known) if len(known) == len(found) else None


def malformed(episode: EpisodeRecord) -> bool:
    """Whether a turn that the model ended itself had no usable action, whether or not that ended the episode."""
    return any(turn.action.get("kind") == "malformed" and turn.finish != "length" for turn in episode.turns)


def cut(episode: EpisodeRecord) -> bool:
    """Whether the token limit ended a turn of the episode before its action."""
    return any(turn.action.get("kind") == "malformed" and turn.finish == "length" for turn in episode.turns)


Verdict = Literal["correct", "wrong", "malformed", "cut", "error"]

FILTERS: Mapping[str, Callable[[EpisodeRecord], bool]] = {
    "correct": lambda episode: episode.score == 1,
    "wrong": lambda episode: episode.error is None and episode.score != 1,
    "malformed": lambda episode: malformed(episode),
    "cut": lambda episode: cut(episode),
    "error": lambda episode: episode.error is not None,
}
"""By name. They may overlap: an episode that a malformed turn ended is wrong too."""


def verdict(episode: EpisodeRecord) -> Verdict:
    """The one word for an episode: what kept it from a score, from being right, or that it is right."""
    if episode.error is not None:
        return "error"
    if episode.score == 1:
        return "correct"
    if episode.ended != "malformed":
        return "wrong"
    return "cut" if episode.turns and episode.turns[-1].finish == "length" else "malformed"
