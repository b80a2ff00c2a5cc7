"""The interface of a benchmark module in ``envs``: questions of a split, and passages to search."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from at2po_env.errors import EnvError
from at2po_env.state import Question, question_to_json
from search_backend.base import Passage


class DataNotFound(EnvError, FileNotFoundError):
    """No data is installed for a benchmark; the message says how to get it.

    ``missing`` is the part of the message that says what is not there, without how to get it.
    """

    def __init__(self, missing: str, remedy: str = "") -> None:
        super().__init__(f"{missing}. {remedy}" if remedy else missing)
        self.missing = missing


class DataError(EnvError, ValueError):
    """A record cannot be used; the message names file, line (or index) and field."""


class NoQuestions(DataError):
    """A file that is read without fault and has no question that can be scored, such as a test set without answers."""


@dataclass(frozen=True)
class Dataset:
    """The questions of one split, in file order, with the digest of what they were read from."""

    name: str
    split: str
    questions: tuple[Question, ...]
    digest: str  # SHA-256 over the source files' bytes, or over the generator's configuration
    notes: Mapping[str, Any] = field(default_factory=dict)  # counts of what was dropped and why, source layout, …

    def __post_init__(self) -> None:
        if not self.questions:
            raise DataError(f"{self.name} {self.split}: there are no questions")
        seen: set[str] = set()
        for index, question in enumerate(self.questions):
            where = f"{self.name} {self.split}, question {index} (id {question.id!r})"
            if question.id in seen:
                raise DataError(f"{where}: the id is not unique")
            if not any(answer.strip() for answer in question.answers):
                raise DataError(f"{where}: it has no gold answer")
            seen.add(question.id)

    @classmethod
    def of(cls, questions: Iterable[Question], name: str = "own", split: str = "all") -> Dataset:
        """A dataset of your own questions, with their digest.

        Raises:
            DataError: there is no question, an id comes twice, or a question has no gold answer.
        """
        kept = tuple(questions)
        described = json.dumps([question_to_json(question) for question in kept], sort_keys=True)
        return cls(name, split, kept, hashlib.sha256(described.encode()).hexdigest())


class Benchmark(Protocol):
    """One benchmark: reads its own layouts. Its module in ``envs`` exposes it as ``BENCHMARK``."""

    @property
    def name(self) -> str:
        """The name of its data folder, and its key in ``BENCHMARKS``."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of its splits, the default one first."""
        ...

    @property
    def citation(self) -> str:
        """The work to cite."""
        ...

    @property
    def license(self) -> str:
        """The licence of the data."""
        ...

    @property
    def metric(self) -> str:
        """The metric that its results are quoted in: a function of ``at2po_env.scoring``, by its short name."""
        ...

    def available(self, data_dir: Path | None) -> tuple[str, ...]:
        """Splits that can be loaded, the default one first; none that has to be asked for by name (``demo``)."""
        ...

    def load(self, split: str, data_dir: Path | None, **options: Any) -> Dataset:
        """Read the questions of ``split``.

        Raises:
            DataNotFound: nothing is installed; the message says how to get it.
            DataError: a record is bad; the message names file, record and field.
        """
        ...

    def passages(self, split: str, data_dir: Path | None, **options: Any) -> Iterable[Passage]:
        """Stream the passages that come with the benchmark (contexts, or a generated encyclopedia)."""
        ...
