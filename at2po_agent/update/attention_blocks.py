"""Tree attention over ``sdpa``: a token meets the tokens of its own path, and few pairs beside those are computed.

Packed tokens stand in depth-first order, and token ``i`` sees token ``j`` if ``j ≤ i < ends[j]``. A mask over all ``T``
tokens computes ``T²`` pairs, most of them between branches, for nothing. So the tokens are cut into *blocks*: stretches
of the packed order. All that a block's tokens may see is the block itself and the ancestors of its first token, so a
block costs ``|block| · (position of its first token + |block|)`` pairs. A cut can stand where a branch begins. Dynamic
programming finds the cheapest cuts: of a small bushy tree one block, of long branches one block each. Blocks of like
size are computed together, padded to the largest of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

Ints = npt.NDArray[np.int64]

MAX_QUERIES = 512  # of a block; a longer branch is cut too, and what stands before the cut counts as ancestors
_MAX_BRANCHES = 64  # of a block
_MAX_PAIRS = 2**23  # of a group, whose bias in float32 then takes 32 MiB
_CALL_PAIRS = 2**14  # what one more kernel call costs, in pairs
_KEY_PAIRS = 48  # what copying one key and its value costs, likewise


class Block(NamedTuple):
    """Tokens that are computed together, and what they may see."""

    tokens: Ints  # [≤ Q] indices in the packed order
    keys: Ints  # [≤ K] the ancestors of the first token, then the tokens
    causal: bool  # whether every token sees all keys up to itself


@dataclass(frozen=True)
class Group:
    """``G`` blocks of up to ``Q`` tokens and up to ``K`` keys; padding repeats a token and is read by nobody."""

    queries: Tensor  # [G, Q] indices in the packed order
    keys: Tensor  # [G, K] likewise
    bias: Tensor | None  # [G, 1, Q, K] 0 or −inf; None for causal blocks

    def map(self, convert: Callable[[Tensor], Tensor]) -> Group:
        """The same with every tensor converted."""
        return Group(convert(self.queries), convert(self.keys), None if self.bias is None else convert(self.bias))


@dataclass(frozen=True)
class Blocks:
    """The attention layout of the ``N`` packed tokens of a micro-batch."""

    groups: tuple[Group, ...]
    outputs: Tensor  # [N] where each token's output is among the outputs of all groups

    def map(self, convert: Callable[[Tensor], Tensor]) -> Blocks:
        """The same with every tensor converted."""
        return Blocks(tuple(group.map(convert) for group in self.groups), convert(self.outputs))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """See ``tree_attention.Layout``."""
        heads, dim = query.shape[1], query.shape[3]
        flat = [states[0].transpose(0, 1).flatten(1) for states in (query, key, value)]  # [N, heads · head_dim]
        outputs = []
        for group in self.groups:
            q, k, v = (
                # An embedding look-up: its backward is deterministic on many threads, and that of x[index] is not.
                functional.embedding(index, states).view(*index.shape, -1, dim).transpose(1, 2)
                for index, states in zip((group.queries, group.keys, group.keys), flat, strict=True)
            )
            k, v = (states.repeat_interleave(heads // states.shape[1], dim=1) for states in (k, v))
            output = functional.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=None if group.bias is None else group.bias.to(q.dtype),
                is_causal=group.bias is None,
                scale=scaling,
            )
            outputs.append(output.transpose(1, 2).reshape(-1, heads * dim))
        return functional.embedding(self.outputs, torch.cat(outputs)).view(1, -1, heads, dim)


def plan_blocks(
    positions: Ints, ends: Ints, dtype: torch.dtype, device: torch.device, max_queries: int = MAX_QUERIES
) -> Blocks:
    """Cut packed trees into blocks and group those of like size.

    Args:
        positions: ``[N]`` of the packed tokens in depth-first order, one tree after the other.
        ends: ``[N]`` one past each token's last descendant.
        dtype: of the model's states.
        device: where it attends.
        max_queries: tokens of a block at most.
    """
    outputs = np.empty(len(positions), dtype=np.int64)
    groups, used = [], 0
    for blocks in _alike(_blocks(positions, max_queries)):
        queries, keys = _padded([block.tokens for block in blocks]), _padded([block.keys for block in blocks])
        for row, block in enumerate(blocks):
            outputs[block.tokens] = used + row * queries.shape[1] + np.arange(len(block.tokens))
        used += queries.size
        bias = None
        if not blocks[0].causal:
            hidden = torch.from_numpy(_hidden(blocks, queries, keys, ends))
            bias = torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, -torch.inf)[:, None].to(device)
        groups.append(Group(torch.from_numpy(queries).to(device), torch.from_numpy(keys).to(device), bias))
    return Blocks(tuple(groups), torch.from_numpy(outputs).to(device))


def _hidden(blocks: Sequence[Block], queries: Ints, keys: Ints, ends: Ints) -> npt.NDArray[np.bool_]:
    """The mask of keys that each query of a group does not see, ``[G, Q, K]``."""
    first = queries[:, :1]
    begin, end = keys - first, ends[keys] - first
    # Padding is seen by nobody.
    end[np.arange(keys.shape[1]) >= np.array([[len(block.keys)] for block in blocks])] = 0
    # Places in a block fit two bytes, which makes the many comparisons several times as fast.
    dtype = np.dtype(np.int16 if queries.shape[1] < 2**15 else np.int64)
    query, begin, end = (p.clip(0, queries.shape[1]).astype(dtype) for p in (queries - first, begin, end))
    hidden: npt.NDArray[np.bool_] = query[:, :, None] < begin[:, None]
    hidden |= query[:, :, None] >= end[:, None]
    return hidden


def _padded(indices: Sequence[Ints]) -> Ints:
    width = max(map(len, indices))
    return np.stack([np.pad(row, (0, width - len(row)), mode="edge") for row in indices])


def _blocks(positions: Ints, max_queries: int) -> Iterator[Block]:
    """Cut packed trees into blocks, in the packed order."""
    # A cut can stand where the position does not go on by one (a branch or a tree begins), and in long branches.
    at = np.arange(len(positions))
    begins = np.diff(positions, prepend=-2) != 1
    starts = at[begins | (at % max_queries == 0)]
    # Only the first token of a tree has position 0; each tree is cut by itself.
    trees = np.flatnonzero(positions[starts] == 0)
    # The packed indices on the path of the last token so far, itself included.
    path = np.empty(0, dtype=np.int64)
    for first, last in itertools.pairwise([*trees, len(starts)]):
        # Where the tree could be cut, and where it ends.
        edges = np.append(starts[first:last], starts[last] if last < len(starts) else len(positions))
        for i, j in _cuts(edges, positions[edges[:-1]], max_queries):
            tokens = np.arange(edges[i], edges[j])
            # The block's first token goes on from some token of the current path: up to there are its ancestors.
            keys = np.concatenate([path[: positions[edges[i]]], tokens])
            # Walk through the block's branches, so that the path is that of its last token.
            for start, end in itertools.pairwise(edges[i : j + 1]):
                path = np.concatenate([path[: positions[start]], np.arange(start, end)])
            # Without ancestors and without branches (all tokens are on one path) the plain causal mask is right.
            yield Block(tokens, keys, causal=len(keys) == len(tokens) and len(path) == len(tokens))


def _cuts(edges: Ints, positions: Ints, max_queries: int) -> list[tuple[int, int]]:
    """The cheapest way to cut a tree into blocks ``edges[i]:edges[j]``, given the positions at ``edges[:-1]``."""
    n = len(edges) - 1
    # best[j]: the least cost of all blocks up to edges[j]; before[j]: where the last of them begins.
    best, before = np.zeros(n + 1), np.zeros(n + 1, dtype=np.int64)
    for j in range(1, n + 1):
        # Every place i where the block that ends at edges[j] could begin, and what it would cost in pairs.
        i = np.arange(max(0, j - _MAX_BRANCHES), j)
        size = edges[j] - edges[i]
        cost = best[i] + (positions[i] + size) * (size + _KEY_PAIRS)
        # A block of several branches may not be too large; a single stretch is never larger than that.
        cost[(size > max_queries) & (i < j - 1)] = np.inf
        before[j], best[j] = i[cost.argmin()], cost.min()
    # Follow the best beginnings back from the end.
    cuts = [n]
    while cuts[-1]:
        cuts.append(int(before[cuts[-1]]))
    return list(itertools.pairwise(reversed(cuts)))


def _alike(blocks: Iterator[Block]) -> Iterator[list[Block]]:
    """Blocks in groups whose padding costs less than calls of their own."""
    group: list[Block] = []
    width = pairs = 0
    # Largest first, so that a block is padded to the widest of its group and the first has the most keys.
    for block in sorted(blocks, key=lambda block: (block.causal, len(block.keys), len(block.tokens)), reverse=True):
        first = group[0] if group else block
        wider, own = max(width, len(block.tokens)), len(block.tokens) * len(block.keys)
        padded = (len(group) + 1) * wider * len(first.keys)
        # A group ends where a call of its own costs less than more padding, or where it would take too much memory.
        wasteful = padded > _MAX_PAIRS or padded - pairs - own > _CALL_PAIRS + pairs // 4
        if group and (wasteful or first.causal != block.causal):
            yield group
            group, wider, pairs = [], len(block.tokens), 0
        group.append(block)
        width, pairs = wider, pairs + own
    if group:
        yield group
