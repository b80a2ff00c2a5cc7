"""A search backend in memory, at the seam that every real one stands at."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from at2po_env.dataset import Dataset
from at2po_env.rules import Rules
from at2po_env.search_qa import Order, SearchQAEnv
from at2po_env.state import Question
from search_backend.base import Hit, Manifest, Passage, SearchError

TOWERS = (
    Passage("p1", "Tower A", "Tower A stands in Paris."),
    Passage("p2", "Tower B", "Tower B stands in London."),
    Passage("p3", "Paris", "Paris is a town in France."),
)

QUESTIONS = (
    Question("q1", "Where does Tower A stand?", ("Paris", "City of Paris"), ("Tower A",)),
    Question("q2", "Where does Tower B stand?", ("London",), ("Tower B",)),
    Question("q3", "Is Paris in France?", ("yes",), ("Paris",), {"type": "comparison"}),
)


class FakeSearch:
    """Finds the passages that share a word with the query, in the order of the corpus; fails when it is told to."""

    def __init__(self, passages: Sequence[Passage] = TOWERS, corpus: str = "towers") -> None:
        self.passages = tuple(passages)
        self.manifest = Manifest("fake", corpus, len(self.passages), "words")
        self.failures: list[SearchError] = []
        self.calls: list[tuple[str, str, int]] = []
        self.gate: asyncio.Event | None = None
        self.closed = False

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        self.calls += [("search", query, k) for query in queries]
        return self._find(queries, k)

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        self.calls += [("asearch", query, k) for query in queries]
        if self.gate is not None:
            await self.gate.wait()
        return self._find(queries, k)

    def _find(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        if self.failures:
            raise self.failures.pop(0)
        return [self._hits(query, k) for query in queries]

    def _hits(self, query: str, k: int) -> list[Hit]:
        words = set(query.split())
        found = [p for p in self.passages if words & set(f"{p.title} {p.text}".split())]
        return [Hit(passage, 1.0 / rank) for rank, passage in enumerate(found[:k], start=1)]

    def close(self) -> None:
        self.closed = True


def make_env(
    search: FakeSearch | None = None,
    questions: Sequence[Question] = QUESTIONS,
    *,
    order: Order = "random",
    copies: int = 1,
    render_mode: str | None = None,
    **rules,
) -> SearchQAEnv:
    dataset, backend = Dataset.of(questions), search or FakeSearch()
    return SearchQAEnv(dataset, backend, Rules.of(**rules), order=order, copies=copies, render_mode=render_mode)
