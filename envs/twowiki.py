"""2WikiMultiHopQA: two-hop questions built from Wikidata (Ho et al. 2020, https://aclanthology.org/2020.coling-main.580).

Splits: ``train`` (167,454) and ``dev`` (12,576); the test set has no answers. Four types: compositional, comparison,
bridge_comparison, inference. Read are the official JSON (HotpotQA's fields, with ``evidences`` as triples,
``entity_ids``, ``evidences_id`` and ``answer_id``), the Hugging Face layouts (``context`` and ``supporting_facts`` as
parallel lists or as objects, sentences named ``sentences`` or ``content``) and FlashRAG's.
One gold answer as the file has it; the aliases of the authors' separate ``id_aliases.json`` are not used.
"""

from __future__ import annotations

from at2po_env.state import Question

from .benchmark import FileBenchmark
from .demo import twowiki
from .hotpotqa import context, supporting_titles
from .layouts import Record


def read(record: Record, split: str) -> Question:
    """The question of a record."""
    return Question(
        record.id(split, "_id"),
        record.text("question"),
        record.answers("answer"),
        supporting_titles(record),
        record.chosen("type"),
    )


BENCHMARK = FileBenchmark(
    name="2wikimultihopqa",
    title="2WikiMultiHopQA",
    citation="Ho et al. 2020, Constructing A Multi-hop QA Dataset for Comprehensive Evaluation, COLING",
    license="Apache-2.0",
    files={
        "train": ("train.json", "train.jsonl"),
        "dev": ("dev.json", "dev.jsonl", "validation.json", "validation.jsonl"),
    },
    download="the official archive that https://github.com/Alab-NII/2wikimultihop links",
    read=read,
    owns=lambda record: "context" in record and "evidences" in record,
    demo=twowiki,
    context=context,
)
