"""MuSiQue: questions of two to four hops composed of single ones (Trivedi et al. 2022, https://arxiv.org/abs/2108.00573).

Splits: ``train`` (19,938) and ``dev`` (2,417) of MuSiQue-Answerable; ``train_full`` and ``dev_full`` are the answerable
rows of MuSiQue-Full. Full pairs each question with a row that lacks a supporting paragraph: such rows
(``answerable: false``) cannot be scored by exact match, are left out and are counted as ``unanswerable``. They carry
the same id as their answerable twin. The test set has no answers.
Read are the official JSON lines (20 ``paragraphs``, ``question_decomposition``; the Hugging Face layout is the same)
and FlashRAG's, which keeps only the supporting paragraph of each step: from it titles are read, but no corpus.
Gold answers: ``answer`` and every one of ``answer_aliases``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from at2po_env.state import Question

from .benchmark import FileBenchmark
from .demo import musique
from .layouts import Record


def read(record: Record, split: str) -> Question | str:
    """The question of a record, or that it has no answer in its paragraphs."""
    answerable = record.get("answerable")
    if not isinstance(answerable, bool | None):
        raise record.error("answerable", f"must be true or false, got {type(answerable).__name__}")
    if answerable is False:
        return "unanswerable"
    steps = record.objects("question_decomposition") if "question_decomposition" in record else []
    aliases = ("answer_aliases",) if "answer_aliases" in record else ()
    return Question(
        record.id(split),
        record.text("question"),
        record.answers("answer", *aliases),
        _supporting_titles(record, steps),
        {"hops": len(steps)} if steps else {},
    )


def _supporting_titles(record: Record, steps: list[dict[str, Any]]) -> tuple[str, ...]:
    """Titles of the paragraphs that support the steps, in the order of the steps."""
    if "paragraphs" not in record:  # FlashRAG keeps the supporting one with each step, and no others
        found = (step["support_paragraph"] for step in steps if step.get("support_paragraph") is not None)
        places = (record.as_object("support_paragraph", paragraph).get("title") for paragraph in found)
        return tuple(dict.fromkeys(record.as_text("support_paragraph.title", title) for title in places))
    numbered = record.objects("paragraphs")
    paragraphs = {record.as_key("paragraphs.idx", paragraph.get("idx")): paragraph for paragraph in numbered}
    by_step = [record.as_key("paragraph_support_idx", step.get("paragraph_support_idx")) for step in steps]
    supporting = [index for index, paragraph in paragraphs.items() if paragraph.get("is_supporting") is True]
    order = dict.fromkeys(index for index in [*by_step, *supporting] if index is not None)
    if not set(order) <= set(paragraphs):
        raise record.error("question_decomposition", "names a paragraph_support_idx that no paragraph has")
    titles = (record.as_text("paragraphs.title", paragraphs[index].get("title")) for index in order)
    return tuple(dict.fromkeys(titles))


def context(record: Record) -> Iterator[tuple[str, str]]:
    """Title and text of every paragraph that comes with a record."""
    for paragraph in record.objects("paragraphs") if "paragraphs" in record else []:
        title = record.as_text("paragraphs.title", paragraph.get("title"))
        yield title, record.as_text("paragraphs.paragraph_text", paragraph.get("paragraph_text"))


BENCHMARK = FileBenchmark(
    name="musique",
    title="MuSiQue",
    citation="Trivedi et al. 2022, MuSiQue: Multihop Questions via Single-hop Question Composition, TACL",
    license="CC BY 4.0",
    files={
        "train": ("musique_ans_v1.0_train.jsonl", "train.jsonl", "train.json"),
        "dev": ("musique_ans_v1.0_dev.jsonl", "dev.jsonl", "dev.json", "validation.jsonl", "validation.json"),
        "train_full": ("musique_full_v1.0_train.jsonl",),
        "dev_full": ("musique_full_v1.0_dev.jsonl",),
    },
    download="the official archive that https://github.com/StonyBrookNLP/musique links",
    read=read,
    owns=lambda record: "question_decomposition" in record,
    demo=musique,
    context=context,
)
