"""Bamboogle: 125 handwritten two-hop questions that a search engine's first page does not answer.

Press et al. 2023, https://arxiv.org/abs/2210.03350. One split, ``test``: never train on it. The copies of the data name
no licence. Read are the official CSV (``Question,Answer``), the same fields as JSON, and FlashRAG's layout.
One gold answer, no aliases; rows have no ids and are numbered.
"""

from __future__ import annotations

from at2po_env.state import Question

from .benchmark import FileBenchmark
from .demo import bamboogle
from .layouts import Record


def read(record: Record, split: str) -> Question:
    """The question of a record."""
    text = record.text("Question" if "Question" in record else "question")
    return Question(record.id(split), text, record.answers("Answer"))


BENCHMARK = FileBenchmark(
    name="bamboogle",
    title="Bamboogle",
    citation="Press et al. 2023, Measuring and Narrowing the Compositionality Gap in Language Models, EMNLP Findings",
    license="not stated",
    files={"test": ("bamboogle.csv", "test.csv", "test.jsonl", "test.json")},
    download="the table that https://github.com/ofirpress/self-ask links, as CSV,",
    read=read,
    owns=lambda record: {"Question", "Answer"} == set(record.fields),
    demo=bamboogle,
)
