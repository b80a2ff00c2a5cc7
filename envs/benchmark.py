"""``FileBenchmark``: a benchmark that is read from files, with the bundled ``demo`` beside its own splits."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from at2po_env.dataset import DataError, DataNotFound, Dataset, NoQuestions
from at2po_env.state import Question
from search_backend.base import Passage

from .demo import DEMO, Demo
from .layouts import Record, records

_ANYBODYS = re.compile(r"(flashrag_\w+|train|dev|validation|test)\.(json|jsonl|csv|tsv|parquet)")

# In the place of a gold answer it says that answers are withheld: so in TriviaQA's public test split.
_WITHHELD = "<unk>"


def passage(title: str, text: str) -> Passage:
    """A passage whose id is a digest of its title and text, so that equal ones are one passage everywhere."""
    digest = hashlib.sha256(f"{title}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()
    return Passage(digest[:16], title, text)


@dataclass(frozen=True)
class FileBenchmark:
    """A benchmark in files: its name, splits and record format.

    ``read`` makes a question of a record of a split, or says in a word why it is no question that can be scored; such
    records, repeated ids and empty answers are left out and counted in ``Dataset.notes``.
    """

    name: str  # also its folder under a data directory
    title: str
    citation: str
    license: str
    files: Mapping[str, tuple[str, ...]]  # split → names that its file may have; the first one that exists is read
    download: str  # where the official files are
    read: Callable[[Record, str], Question | str]
    owns: Callable[[Record], bool]  # whether a record can be of this benchmark only, by its fields
    demo: Callable[[], Demo]
    context: Callable[[Record], Iterator[tuple[str, str]]] | None = None  # title and text of a record's own passages
    metric: str = "em"  # what results are quoted in: the paper's, for all seven

    @property
    def splits(self) -> tuple[str, ...]:
        """The first one is the default; ``demo`` is bundled and asks about a fictional world."""
        return (*self.files, DEMO)

    def names(self, split: str) -> tuple[str, ...]:
        """Names that the file of a split may have, among them ``flashrag_SPLIT.jsonl`` and ``SPLIT.parquet``.

        Raises:
            ValueError: there is no such split.
        """
        if split not in self.files:
            raise ValueError(f"{self.title}: no split is named {split!r}; there are {', '.join(self.splits)}")
        return tuple(dict.fromkeys((*self.files[split], f"flashrag_{split}.jsonl", f"{split}.parquet")))

    def present(self, split: str, data_dir: Path | None) -> tuple[Path, ...]:
        """The files of a split in ``data_dir/NAME`` or ``data_dir``; the first is read and hides the others.

        A name that any benchmark's file may have (``train.jsonl``) counts in a folder of this benchmark's name only.
        """
        names = self.names(split)
        return tuple(
            folder / name
            for folder in (() if data_dir is None else (data_dir / self.name, data_dir))
            for name in names
            if (folder.name == self.name or not _is_anybodys(name)) and (folder / name).is_file()
        )

    def find(self, split: str, data_dir: Path | None) -> Path | None:
        """The file of a split that is read, the first of ``present``; None where there is none."""
        return next(iter(self.present(split, data_dir)), None)

    def available(self, data_dir: Path | None) -> tuple[str, ...]:
        """The splits that have a file, in the order of ``splits``; never ``demo``, which has to be asked for."""
        return tuple(split for split in self.files if self.find(split, data_dir) is not None)

    def load(self, split: str, data_dir: Path | None) -> Dataset:
        """Read the questions of ``split``; ``notes`` count what was left out, and questions that come twice.

        Raises:
            DataNotFound: no file of the split is there; the message says how to get one.
            DataError: a record is bad; the message names file, record and field.
        """
        if split == DEMO:
            made = self.demo()
            return Dataset(self.name, DEMO, made.questions, made.digest, {"world": "fictional, bundled"})
        return self.load_file(self._installed(split, data_dir), split)

    def load_file(self, path: Path, split: str) -> Dataset:
        """Read one file as the questions of ``split``; of a merged file, the rows of this benchmark.

        Raises:
            NoQuestions: no question can be scored; the message says why, and names the benchmarks of a merged file.
            DataError: a record is bad, or two questions have one id.
        """
        counts: Counter[str] = Counter(records=0, duplicate_ids=0, empty_answers=0, repeated_questions=0)
        questions: dict[str, Question] = {}
        asked: set[str] = set()
        others: set[str] = set()
        for record in records(path):
            counts["records"] += 1
            if not self._owns_row(record):
                counts["rows_of_other_benchmarks"] += 1
                others.add(str(record.source)[:40])
                continue
            question = self._question(record, split)
            if isinstance(question, str):
                counts[question] += 1
            elif (left_out := _unscorable(question)) is not None:
                counts[left_out] += 1
            elif question.id in questions:
                if question.question != questions[question.id].question:
                    raise DataError(
                        f"{record.where}: another question has the id {question.id!r} already: if several files were "
                        "merged here, take them apart"
                    )
                counts["duplicate_ids"] += 1
            else:
                counts["repeated_questions"] += question.question in asked
                asked.add(question.question)
                questions[question.id] = question
        if not questions:
            raise NoQuestions(f"{path}: there are no questions to score {_why_none(counts, others)}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Dataset(self.name, split, tuple(questions.values()), digest, {"file": path.name, **counts})

    def _question(self, record: Record, split: str) -> Question | str:
        question = self.read(record, split)
        if isinstance(question, str) or "supporting_titles" not in record:
            return question
        # Files that we wrote name the titles in place of the records that they were taken from.
        return replace(question, supporting_titles=record.texts("supporting_titles"))

    def passages(self, split: str, data_dir: Path | None) -> Iterator[Passage]:
        """Stream the passages of the split's contexts, each (title, text) once; ids are digests of them.

        Raises:
            DataNotFound: as ``load``, or the records have no contexts.
            DataError: as ``load``.
        """
        if split == DEMO:
            yield from self.demo().passages
            return
        path = self._installed(split, data_dir)
        seen: set[str] = set()
        for record in records(path) if self.context else ():
            assert self.context is not None
            for title, text in self.context(record) if self._owns_row(record) else ():
                found = passage(title, text.strip())
                if found.id not in seen:
                    seen.add(found.id)
                    yield found
        if not seen:
            raise DataNotFound(f"{path}: its records have no contexts to search; name an index with search= (--search)")

    def recognises(self, path: Path) -> bool:
        """Whether a file can be of this benchmark only: by its first record, or because every row says so.

        Raises:
            DataError: the file cannot be read as records.
        """
        stream = records(path)
        for first in islice(stream, 1):
            if first.source is None:
                return self.owns(first)
            return first.source == self.name and all(record.source == self.name for record in stream)
        return False

    def _owns_row(self, record: Record) -> bool:
        return record.source in (None, self.name)

    def split_of(self, name: str) -> str | None:
        """The split that a file's name says, by the official names, or by the word in it; None where it says none."""
        for split, names in self.files.items():
            if not _is_anybodys(name) and name in {known.rpartition("/")[2] for known in names}:
                return split
        words = {"validation": "dev"} | {split: split for split in ("train", "dev", "test") if split in self.files}
        return next((split for word, split in words.items() if word in name.lower() and split in self.files), None)

    def _installed(self, split: str, data_dir: Path | None) -> Path:
        path = self.find(split, data_dir)
        if path is not None:
            return path
        where = f"{data_dir / self.name} or {data_dir}" if data_dir else "no directory was given"
        names = ", ".join(self.files[split])
        there = self.available(data_dir)
        has = f"; installed is {', '.join(there)}" if there else ""
        raise DataNotFound(
            f"{self.title}: no data for split {split!r} ({where}){has}",
            "Three ways to get it: (1) `at2po-agent data "
            f"pull {self.name}`, from the Hugging Face hub; (2) Download {self.download} ({self.license}) and run "
            f"`at2po-agent data import FILE`; (3) put a file named {names} in DIR/{self.name} and pass data_dir=DIR or "
            "set AT2PO_DATA=DIR. To try the environment without data, the split demo asks about a fictional world, "
            "and AT2PO-MicroWiki-v0 generates one to train in.",
        )


def _is_anybodys(name: str) -> bool:
    """Whether a file of this name can belong to any benchmark."""
    return _ANYBODYS.fullmatch(name) is not None


def _unscorable(question: Question) -> str | None:
    """The count under which a question that cannot be scored is reported."""
    answers = {answer.strip().lower() for answer in question.answers} - {""}
    if not answers:
        return "empty_answers"
    return "without_answers" if answers == {_WITHHELD} else None


def _why_none(counts: Counter[str], others: set[str]) -> str:
    why = ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "it has no records"
    if others:
        return f"({why}): its data_source names {', '.join(sorted(others)[:8])}"
    if counts["without_answers"] == counts["records"] > 0:
        return f"({why}): its answers are withheld, so it is no split to evaluate on; take one that has answers"
    return f"({why})"
