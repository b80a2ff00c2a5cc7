"""PopQA: questions about entities of all popularities, made from Wikidata triples.

Mallen et al. 2023, https://arxiv.org/abs/2212.10511. One split, ``test`` (14,267): never train on it. Read are the
official table (``popQA.tsv``: 17 tab-separated columns with CSV quoting, lists as JSON text), the Hugging Face layout
(the same columns as JSON) and FlashRAG's.
Gold answers: every one of ``possible_answers``. The supporting title is the subject's Wikipedia page
(``s_wiki_title``). The authors score containment, the paper exact match: ``metric`` is the paper's.
"""

from __future__ import annotations

from at2po_env.state import Question

from .benchmark import FileBenchmark
from .demo import popqa
from .layouts import Record


def read(record: Record, split: str) -> Question:
    """The question of a record."""
    id_ = record.get("id")
    field = "golden_answers" if "golden_answers" in record else "possible_answers"
    title = record.get("s_wiki_title")
    return Question(
        str(id_) if isinstance(id_, int) and not isinstance(id_, bool) else record.id(split),
        record.text("question"),
        record.texts_in_json(field),
        () if not title else (record.text("s_wiki_title"),),
        {"type": record.text("prop")} if "prop" in record else {},
    )


BENCHMARK = FileBenchmark(
    name="popqa",
    title="PopQA",
    citation="Mallen et al. 2023, When Not to Trust Language Models, ACL",
    license="MIT",
    files={"test": ("popQA.tsv", "test.tsv", "test.jsonl")},
    download="popQA.tsv from https://github.com/AlexTMallen/adaptive-retrieval (data/)",
    read=read,
    owns=lambda record: "prop" in record and "s_pop" in record,
    demo=popqa,
)
