"""HotpotQA: questions over two Wikipedia paragraphs (Yang et al. 2018, https://aclanthology.org/D18-1259).

Three layouts are read, and told apart record by record: the official JSON (``_id``, ``context`` as pairs), the Hugging
Face one (``context`` as two parallel lists) and FlashRAG's (``golden_answers``, the rest under ``metadata``). A file is
one JSON array, or JSON lines.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from at2po_env.dataset import DataError, DataNotFound, Dataset
from at2po_env.state import Question
from search_backend.base import Passage

FILES: Mapping[str, tuple[str, ...]] = {
    "train": ("hotpot_train_v1.1.json", "train.json", "train.jsonl"),
    "dev": ("hotpot_dev_distractor_v1.json", "dev.json", "dev.jsonl", "validation.json", "validation.jsonl"),
    "dev_fullwiki": ("hotpot_dev_fullwiki_v1.json", "dev_fullwiki.json", "dev_fullwiki.jsonl"),
}
"""Names that a split may have, in ``data_dir/hotpotqa`` or ``data_dir``; the first one that exists is read."""


class HotpotQA:
    """The benchmark: two-hop questions; ``dev`` is the distractor setting, ``dev_fullwiki`` has retrieved contexts."""

    name = "hotpotqa"
    splits = tuple(FILES)
    citation = "Yang et al. 2018, HotpotQA: A Dataset for Diverse, Explainable Multi-hop Question Answering, EMNLP"
    license = "CC BY-SA 4.0"

    def load(self, split: str, data_dir: Path | None) -> Dataset:
        """Read the questions of ``split``; ``notes`` count what was dropped.

        Raises:
            DataNotFound: no file of the split is there; the message says how to get one.
            DataError: a record is bad; the message names file, record and field.
        """
        path = _find(split, data_dir)
        content = path.read_bytes()
        dropped: Counter[str] = Counter(duplicate_ids=0, empty_answers=0)
        questions: dict[str, Question] = {}
        for index, record in _records(path, content):
            question = record.question(split, index)
            if question.id in questions:
                dropped["duplicate_ids"] += 1
            elif not any(answer.strip() for answer in question.answers):
                dropped["empty_answers"] += 1
            else:
                questions[question.id] = question
        notes = {"file": path.name, **dropped}
        return Dataset(self.name, split, tuple(questions.values()), hashlib.sha256(content).hexdigest(), notes)

    def passages(self, split: str, data_dir: Path | None) -> Iterator[Passage]:
        """Stream the paragraphs of the split's contexts, each (title, text) once; ids are digests of them.

        Raises:
            DataNotFound: as ``load``, or the records have no contexts.
            DataError: as ``load``.
        """
        path = _find(split, data_dir)
        seen: set[str] = set()
        for _, record in _records(path, path.read_bytes()):
            for title, text in record.context():
                digest = hashlib.sha256(f"{title}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
                if digest not in seen:
                    seen.add(digest)
                    yield Passage(digest, title, text)
        if not seen:
            raise DataNotFound(f"{path}: its records have no contexts to search; pass search= with an index to use")


BENCHMARK = HotpotQA()


def _find(split: str, data_dir: Path | None) -> Path:
    if split not in FILES:
        raise ValueError(f"HotpotQA: no split is named {split!r}; there are {', '.join(FILES)}")
    folders = () if data_dir is None else (data_dir / "hotpotqa", data_dir)
    for folder in folders:
        for name in FILES[split]:
            if (folder / name).is_file():
                return folder / name
    where = " or ".join(str(folder) for folder in folders) or "no directory was given"
    official = FILES[split][0]
    raise DataNotFound(
        f"HotpotQA: no data for split {split!r} ({where}). Download "
        f"http://curtis.ml.cmu.edu/datasets/hotpot/{official} (CC BY-SA 4.0) to DIR/hotpotqa/{official}, then pass "
        f"data_dir=DIR or set AT2PO_DATA=DIR; also read: {', '.join(FILES[split][1:])} in the Hugging Face or FlashRAG "
        "layout. AT2PO-MicroWiki-v0 needs no data."
    )


def _records(path: Path, content: bytes) -> Iterator[tuple[int, _Record]]:
    """Parse an array or JSON lines; an index counts records from 0, a line from 1."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from error
    if text.lstrip().startswith("["):
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error
        for index, value in enumerate(values):
            yield index, _Record(value, f"{path}, record {index}")
        return
    lines = (line for line in enumerate(text.split("\n"), start=1) if line[1].strip())
    for index, (number, line) in enumerate(lines):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: not JSON: {error.msg}") from error
        yield index, _Record(value, f"{path}, line {number}")


class _Record:
    """One record of any layout, read strictly."""

    def __init__(self, value: Any, where: str) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise DataError(f"{where}: a record is a JSON object, got {type(value).__name__}")
        nested = value.get("metadata")
        self._fields = {**(nested if isinstance(nested, dict) else {}), **value}

    def question(self, split: str, index: int) -> Question:
        """The question; where a record has no id it is ``SPLIT-INDEX``."""
        id_ = self._fields.get("_id", self._fields.get("id", f"{split}-{index}"))
        text = self._text("question", self._fields.get("question"))
        if "golden_answers" in self._fields:
            golden = self._list("golden_answers", self._fields["golden_answers"])
            answers = tuple(self._text("golden_answers", answer) for answer in golden)
        else:
            answers = (self._text("answer", self._fields.get("answer")),)
        titles = dict.fromkeys(title for title, _ in self._pairs("supporting_facts", "title", "sent_id"))
        supporting = tuple(self._text("supporting_facts", title) for title in titles)
        metadata = {key: self._fields[key] for key in ("type", "level") if isinstance(self._fields.get(key), str)}
        return Question(self._text("_id", id_), text, answers, supporting, metadata)

    def context(self) -> Iterator[tuple[str, str]]:
        """Title and text of every paragraph that comes with the record."""
        for title, sentences in self._pairs("context", "title", "sentences"):
            text = "".join(self._text("context", sentence) for sentence in self._list("context", sentences))
            yield self._text("context", title), text.strip()

    def _pairs(self, field: str, first: str, second: str) -> list[tuple[Any, Any]]:
        value = self._fields.get(field)
        if value is None:
            return []
        if isinstance(value, dict):
            columns = [self._list(f"{field}.{column}", value.get(column)) for column in (first, second)]
            if len(columns[0]) != len(columns[1]):
                raise DataError(f"{self.where}: field {field!r}: {first} and {second} differ in length")
            return list(zip(*columns, strict=True))
        pairs = self._list(field, value)
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise DataError(f"{self.where}: field {field!r} must be a list of pairs")
        return [(pair[0], pair[1]) for pair in pairs]

    def _text(self, field: str, value: Any) -> str:
        if not isinstance(value, str):
            raise DataError(f"{self.where}: field {field!r} must be text, got {type(value).__name__}")
        return value

    def _list(self, field: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise DataError(f"{self.where}: field {field!r} must be a list, got {type(value).__name__}")
        return value
