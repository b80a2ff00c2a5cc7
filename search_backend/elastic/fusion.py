"""Hybrid retrieval: the words' ranking and the vectors' ranking of one query, fused into one.

Reciprocal rank fusion (Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank
Learning Methods", SIGIR 2009): a passage scores the sum of ``1 / (rrf + rank)`` over the lists that it is in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_backend.base import SearchError

WINDOW = 100
"""Hits of each list that are fused, at least; so the first hits do not depend on how many are asked for."""

RRF = 60
"""The constant of the paper."""

CANDIDATES = 200
MAX_CANDIDATES = 10_000
HYBRID_OPTIONS = ("hybrid", "candidates", "rrf")


@dataclass(frozen=True)
class Hybrid:
    """Settings of hybrid search: words and vectors together."""

    model: str  # of sentence-transformers: a name on the hub, or a directory
    candidates: int = CANDIDATES  # passages that each shard compares with the query (Elasticsearch's num_candidates)
    rrf: int = RRF

    def to_json(self) -> dict[str, Any]:
        """Settings besides the index that decide results; the model is in the index's own manifest."""
        return {"candidates": self.candidates, "rrf": self.rrf, "window": WINDOW}


def parse_hybrid(options: Mapping[str, str], shown: str) -> Hybrid | None:
    """Read ``hybrid=MODEL&candidates=200&rrf=60`` of a search URI; None without ``hybrid``.

    Raises:
        SearchError: A number is wrong, or given without a model.
    """
    model = options.get("hybrid")
    if not model:
        if wrong := [name for name in HYBRID_OPTIONS if name in options]:
            raise SearchError(f"{shown}: {wrong[0]} needs hybrid=MODEL, a sentence-transformers name or directory")
        return None
    numbers: dict[str, int] = {}
    for name, default, low, high in (("candidates", CANDIDATES, WINDOW, MAX_CANDIDATES), ("rrf", RRF, 0, 1_000_000)):
        given = options.get(name, str(default))
        if not given.isascii() or not given.isdigit() or not low <= int(given) <= high:
            raise SearchError(f"{shown}: {name} must be a whole number from {low} to {high}, not {given!r}")
        numbers[name] = int(given)
    return Hybrid(model, **numbers)


def fuse(rankings: Sequence[Sequence[int]], rrf: int) -> list[tuple[int, float]]:
    """Fuse rankings of passages, best first, into one of (passage, score).

    Args:
        rankings: Each names its passages by their place among all ids; no passage twice in a list.
        rrf: The constant k of the paper's formula; ranks count from 1.

    Returns:
        Best first; equal scores by place, so by passage id.
    """
    scores: dict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, passage in enumerate(ranking, 1):
            scores[passage] += 1 / (rrf + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
