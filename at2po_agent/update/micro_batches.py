"""Assign the trees of a mini-batch to processes and rounds.

Processes that share a model meet in every layer of every forward, so what counts is not only that each has as many
tokens in all, but that those which are forwarded at the same time are alike. A *round* is one micro-batch in every
process; the rounds of a mini-batch are filled evenly, largest trees first.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from at2po_agent.update.packing import plan


def shares(sizes: Sequence[int], max_tokens: int, processes: int) -> list[list[list[int]]]:
    """Split trees over processes and rounds: ``[round][process][tree index]``.

    One process has the micro-batches of ``packing.plan``. Several have a micro-batch each in every round, of at most
    ``max_tokens`` tokens unless a single tree is larger; where there are fewer trees than that, some are empty. The
    result follows from the arguments alone, so that all processes have the same.

    Args:
        sizes: tokens of each tree.
        max_tokens: of one micro-batch.
        processes: at least 1.
    """
    batches = plan(sizes, max_tokens)
    if processes == 1:
        return [[batch] for batch in batches]
    wanted = -(-len(batches) // processes) * processes  # a full round
    while any(_too_large(batch, sizes, max_tokens) for batch in _even(sizes, wanted)):
        wanted += processes
    batches = sorted(_even(sizes, wanted), key=lambda batch: (-_tokens(batch, sizes), batch))
    split = [batches[i : i + processes] for i in range(0, len(batches), processes)]
    return [row if i % 2 == 0 else row[::-1] for i, row in enumerate(split)]  # no process has the largest every time


def _even(sizes: Sequence[int], parts: int) -> list[list[int]]:
    """Largest tree first into the part that has the fewest tokens."""
    found: list[list[int]] = [[] for _ in range(parts)]
    loads = [(0, part) for part in range(parts)]
    for tree in sorted(range(len(sizes)), key=lambda tree: (-sizes[tree], tree)):
        load, part = heapq.heappop(loads)
        found[part].append(tree)
        heapq.heappush(loads, (load + sizes[tree], part))
    return found


def _tokens(batch: Sequence[int], sizes: Sequence[int]) -> int:
    return sum(sizes[tree] for tree in batch)


def _too_large(batch: Sequence[int], sizes: Sequence[int], max_tokens: int) -> bool:
    return len(batch) > 1 and _tokens(batch, sizes) > max_tokens
