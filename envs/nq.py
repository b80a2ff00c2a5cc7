"""NQ-open: questions of Google users with short answers (Kwiatkowski et al. 2019; Lee et al. 2019, arXiv 1906.00300).

Splits: ``train`` (87,925), ``dev`` (3,610) and ``test``. The official development file is what papers call the NQ test
set, so ``test`` reads it too, under FlashRAG's name or its own; FlashRAG's ``train`` and ``dev`` are two parts of the
official training file. ``oracle`` are questions with one gold passage each (``ctxs``), which make a small corpus.
Read are the official JSON lines (``question``, ``answer`` as a list; the Hugging Face layout is the same), DPR-like
records (``answers``, ``ctxs``) and FlashRAG's. Gold answers: every one of the list. Rows have no ids and are numbered.
"""

from __future__ import annotations

from collections.abc import Iterator

from at2po_env.state import Question

from .benchmark import FileBenchmark
from .demo import nq
from .layouts import Record


def read(record: Record, split: str) -> Question:
    """The question of a record."""
    field = "answers" if "answers" in record else "answer"
    answers = record.texts("golden_answers" if "golden_answers" in record else field)
    contexts = record.objects("ctxs") if "ctxs" in record else []
    titles = (record.as_text("ctxs.title", item.get("title")) for item in contexts if item.get("isgold") is True)
    return Question(record.id(split), record.text("question"), answers, tuple(dict.fromkeys(titles)))


def context(record: Record) -> Iterator[tuple[str, str]]:
    """Title and text of every passage that comes with a record."""
    for item in record.objects("ctxs") if "ctxs" in record else []:
        yield record.as_text("ctxs.title", item.get("title")), record.as_text("ctxs.text", item.get("text"))


def _owns(record: Record) -> bool:
    bare = set(record.fields) == {"question", "answer"} and isinstance(record.get("answer"), list)
    return bare or "nq_annotated_gold" in record


BENCHMARK = FileBenchmark(
    name="nq",
    title="NQ",
    citation="Kwiatkowski et al. 2019, Natural Questions: A Benchmark for Question Answering Research, TACL",
    license="CC BY-SA 3.0",
    files={
        "train": ("NQ-open.train.jsonl", "train.jsonl"),
        "dev": ("NQ-open.dev.jsonl", "validation.jsonl", "dev.jsonl"),
        "test": ("test.jsonl", "flashrag_test.jsonl", "NQ-open.dev.jsonl"),
        "oracle": ("nq-open-oracle.jsonl",),
    },
    download="NQ-open.train.jsonl or NQ-open.dev.jsonl from https://github.com/google-research-datasets/natural-questions",
    read=read,
    owns=_owns,
    demo=nq,
    context=context,
)
