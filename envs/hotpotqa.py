"""HotpotQA: questions over two Wikipedia paragraphs (Yang et al. 2018, https://aclanthology.org/D18-1259).

Splits: ``train`` (90,447), ``dev`` (7,405, the distractor setting: ten paragraphs with both gold ones) and
``dev_fullwiki`` (the same questions with retrieved paragraphs, where gold ones may be missing). The test set has no
answers. Read are the official JSON (``_id``, ``context`` and ``supporting_facts`` as pairs), the Hugging Face layout
(both as parallel lists, ``id`` or none) and FlashRAG's (``golden_answers``, the rest under ``metadata``).
One gold answer, no aliases; scored by exact match and F1 after SQuAD normalisation.
"""

from __future__ import annotations

from collections.abc import Iterator

from at2po_env.state import Question

from .benchmark import FileBenchmark
from .demo import hotpotqa
from .layouts import Record


def read(record: Record, split: str) -> Question:
    """The question of a record."""
    return Question(
        record.id(split, "_id"),
        record.text("question"),
        record.answers("answer"),
        supporting_titles(record),
        record.chosen("type", "level"),
    )


def supporting_titles(record: Record) -> tuple[str, ...]:
    """Titles of the paragraphs that hold the supporting facts, in the order in which they are needed."""
    pairs = record.pairs("supporting_facts", "title", "sent_id")
    return record.as_texts("supporting_facts", [title for title, _ in pairs])


def context(record: Record) -> Iterator[tuple[str, str]]:
    """Title and text of every paragraph that comes with a record."""
    for title, sentences in record.pairs("context", "title", "sentences", "content"):
        parts = record.as_list("context", sentences)
        text = "".join(record.as_text("context", sentence) for sentence in parts)
        yield record.as_text("context", title), text


BENCHMARK = FileBenchmark(
    name="hotpotqa",
    title="HotpotQA",
    citation="Yang et al. 2018, HotpotQA: A Dataset for Diverse, Explainable Multi-hop Question Answering, EMNLP",
    license="CC BY-SA 4.0",
    files={
        "train": ("hotpot_train_v1.1.json", "train.json", "train.jsonl"),
        "dev": ("hotpot_dev_distractor_v1.json", "dev.json", "dev.jsonl", "validation.json", "validation.jsonl"),
        "dev_fullwiki": ("hotpot_dev_fullwiki_v1.json", "dev_fullwiki.json", "dev_fullwiki.jsonl"),
    },
    download="http://curtis.ml.cmu.edu/datasets/hotpot/hotpot_train_v1.1.json or hotpot_dev_distractor_v1.json there",
    read=read,
    owns=lambda record: "context" in record and "level" in record and "evidences" not in record,
    demo=hotpotqa,
    context=context,
)
