"""Packing: trees of turns to tensors, every token of a tree forwarded once.

All paths of a tree go into one trie of token ids. Two tokens with the same context are the same token of the trie:
siblings share their prompt, and turns that happen to repeat are shared too, which changes no number. Trie tokens stand
in depth-first order, so the descendants of token ``j`` are ``j+1 … ends[j]−1`` and what a token may see is one
comparison (``tree_attention.py``):

    token i sees token j  ⇔  j ≤ i < ends[j]

Positions count tokens along the path. What predicts a token is its parent in the trie, which for the first token of a
turn is the last token of the observation before it, wherever that stands. Only tokens that predict something are
forwarded: the last token of a trajectory is a target and never an input.

The forward is deduplicated, the loss is not: ``rows`` maps every (leaf, position) to its action token, and objectives
see those unrolled rows. Gradients add up in that gather.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from at2po_agent.method.tree import ROOT, TurnNode, TurnTree

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Credited(NamedTuple):
    """A tree and what credit assignment gave it: ``advantages[l][k]`` for turn ``k`` of ``tree.leaves[l]``."""

    tree: TurnTree
    advantages: Sequence[Sequence[float]]


@dataclass(frozen=True)
class PackedTree:
    """One tree: ``T`` tokens to forward, ``A`` distinct action tokens, ``R`` unrolled rows (leaf by leaf)."""

    ids: Ints  # [T] in depth-first order
    positions: Ints  # [T] tokens before it on its path
    ends: Ints  # [T] one past its last descendant
    predictors: Ints  # [A] index in T of the token whose logits give the action token
    targets: Ints  # [A] id of the action token
    rows: Ints  # [R] index in A
    sequence_ids: Ints  # [R] 0 … n_sequences − 1, in the order of tree.leaves
    turn_ids: Ints  # [R] 0 … n_turns − 1, one number per (leaf, turn)
    advantage: Floats  # [R]
    logp_old: Floats  # [R] nats, of the rollout
    n_sequences: int
    n_turns: int

    @property
    def n_tokens(self) -> int:
        """Generated tokens over all trajectories, a shared token once per leaf."""
        return len(self.rows)

    @property
    def has_signal(self) -> bool:
        """Whether any advantage differs from zero."""
        return bool(self.advantage.any())


class _Trie:
    """Token ids by context, in order of insertion: a parent stands before its children."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.parents: list[int] = []
        self._index: dict[tuple[int, int], int] = {}
        self._slots: dict[tuple[int, int], int] = {}

    def child(self, parent: int, token: int) -> int:
        """The trie token ``token`` after ``parent`` (−1: at the start)."""
        index = self._index.setdefault((parent, token), len(self.ids))
        if index == len(self.ids):
            self.ids.append(token)
            self.parents.append(parent)
        return index

    def predicted(self, parent: int, token: int) -> int:
        """The action token ``token`` after ``parent``; it is forwarded only if something follows it."""
        return self._slots.setdefault((parent, token), len(self._slots))

    def depth_first(self) -> tuple[Ints, Ints, Ints]:
        """Depth-first index, size of the subtree and depth of every token."""
        n = len(self.ids)
        size, free, depth, start = [1] * n, [0] * n, [0] * n, [0] * n
        # Parents stand before their children, so from the end every size is complete when its parent needs it.
        for i in range(n - 1, 0, -1):
            size[self.parents[i]] += size[i]
        # From the front: a token begins at the next free place of its parent, which moves on by its whole subtree.
        for i in range(n):
            if i:
                parent = self.parents[i]
                start[i], depth[i] = free[parent], depth[parent] + 1
                free[parent] += size[i]
            free[i] = start[i] + 1
        return np.array(start), np.array(size), np.array(depth)

    def action_tokens(self) -> Ints:
        """``[A, 2]``: predicting trie token, id."""
        return np.array(list(self._slots), dtype=np.int64).reshape(-1, 2)


def pack_tree(tree: TurnTree, advantages: Sequence[Sequence[float]]) -> PackedTree:
    """Lay one tree out.

    Args:
        tree: with at least one scored leaf.
        advantages: one list per leaf in the order of ``tree.leaves``, one value per turn on its path.

    Raises:
        ValueError: no scored leaf, an empty prompt, or advantages that do not fit the tree.
    """
    paths = [path for _, path in tree.trajectories()]
    _check(tree, paths, advantages)
    # Put every turn into one trie of tokens, so that what paths share is there once. For each node: the trie token that
    # its children follow, and the slots of its action tokens among all predictions.
    trie = _Trie()
    ends_at = {ROOT: _extend(trie, -1, tree[ROOT].observation)}
    slots: dict[int, list[int]] = {}
    for index in itertools.chain.from_iterable(paths):
        if index not in slots:
            ends_at[index], slots[index] = _insert(trie, tree[index], ends_at[tree[index].parent])
    # The losses count a turn once for every leaf below it: unroll to one row per (leaf, turn, action token).
    turns = [index for path in paths for index in path]
    turn_ids = np.repeat(np.arange(len(turns)), [len(slots[index]) for index in turns])
    sequence_of_turn = np.repeat(np.arange(len(paths)), [len(path) for path in paths])
    # Number the trie in depth-first order, where the descendants of a token are the stretch right after it.
    start, size, depth = trie.depth_first()
    order = np.argsort(start)
    action = trie.action_tokens()
    return PackedTree(
        ids=np.array(trie.ids)[order],
        positions=depth[order],
        ends=(start + size)[order],
        predictors=start[action[:, 0]],
        targets=action[:, 1],
        rows=np.array([slot for index in turns for slot in slots[index]]),
        sequence_ids=sequence_of_turn[turn_ids],
        turn_ids=turn_ids,
        advantage=np.array([a for given in advantages for a in given], dtype=np.float64)[turn_ids],
        logp_old=np.array([logp for index in turns for logp in tree[index].logp], dtype=np.float64),
        n_sequences=len(paths),
        n_turns=len(turns),
    )


def _check(tree: TurnTree, paths: Sequence[Sequence[int]], advantages: Sequence[Sequence[float]]) -> None:
    name = f"tree {tree.question_id!r}"
    if not paths or not tree[ROOT].observation:
        raise ValueError(f"{name} has no scored leaf or no prompt: nothing to train on, drop it")
    turns, given = [len(path) for path in paths], [len(values) for values in advantages]
    if turns != given:
        raise ValueError(f"{name} has {turns} turns on the paths to its leaves, but {given} advantages")
    wrong = [i for path in paths for i in path if len(tree[i].logp) != len(tree[i].action)]
    if wrong:
        raise ValueError(f"{name}: node {wrong[0]} lacks log-probabilities of its action; use a policy that gives them")


def _extend(trie: _Trie, at: int, ids: Sequence[int]) -> int:
    for token in ids:
        at = trie.child(at, token)
    return at


def _insert(trie: _Trie, node: TurnNode, at: int) -> tuple[int, list[int]]:
    """Add a turn after trie token ``at``; where its observation ends, and its action tokens."""
    slots = []
    for token in node.action[:-1]:
        slots.append(trie.predicted(at, token))
        at = trie.child(at, token)
    slots.append(trie.predicted(at, node.action[-1]))
    return (at if node.leaf else _extend(trie, at, (node.action[-1], *node.observation))), slots


@dataclass(frozen=True)
class MicroBatch:
    """The input of one forward: ``N`` tokens of one or more trees, one after the other, without padding."""

    ids: Tensor  # [N]
    positions: Tensor  # [N]
    ends: Tensor  # [N] one past the last descendant
    predictors: Tensor  # [A] in N
    targets: Tensor  # [A]
    rows: Tensor  # [R] in A
    sequence_ids: Tensor  # [R]
    turn_ids: Tensor  # [R]
    advantage: Tensor  # [R]
    logp_old: Tensor  # [R]

    def to(self, device: torch.device) -> MicroBatch:
        """The same on ``device``."""
        return self.map(lambda tensor: tensor.to(device))

    def map(self, convert: Callable[[Tensor], Tensor]) -> MicroBatch:
        """The same with every tensor converted."""
        return MicroBatch(
            ids=convert(self.ids),
            positions=convert(self.positions),
            ends=convert(self.ends),
            predictors=convert(self.predictors),
            targets=convert(self.targets),
            rows=convert(self.rows),
            sequence_ids=convert(self.sequence_ids),
            turn_ids=convert(self.turn_ids),
            advantage=convert(self.advantage),
            logp_old=convert(self.logp_old),
        )


def plan(sizes: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Split trees into micro-batches of at most ``max_tokens`` tokens: ``[micro-batch][tree index]``.

    Largest first into the first micro-batch with room (first-fit decreasing); a tree that is larger is alone.
    """
    batches: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        fits = next((b for b, free in enumerate(room) if free >= sizes[i]), None)
        if fits is None:
            fits = len(batches)
            batches.append([])
            room.append(max_tokens)
        batches[fits].append(i)
        room[fits] -= sizes[i]
    return batches


def collate(trees: Sequence[PackedTree]) -> MicroBatch:
    """Tensors of one micro-batch, tree by tree."""
    # Indices of a tree begin at 0; those of a micro-batch go on where the tree before it ended.
    token = _starts([len(tree.ids) for tree in trees])
    action = _starts([len(tree.targets) for tree in trees])
    sequence = _starts([tree.n_sequences for tree in trees])
    turn = _starts([tree.n_turns for tree in trees])
    return MicroBatch(
        ids=_joined([tree.ids for tree in trees]),
        positions=_joined([tree.positions for tree in trees]),
        ends=_joined([tree.ends + start for tree, start in zip(trees, token, strict=True)]),
        predictors=_joined([tree.predictors + start for tree, start in zip(trees, token, strict=True)]),
        targets=_joined([tree.targets for tree in trees]),
        rows=_joined([tree.rows + start for tree, start in zip(trees, action, strict=True)]),
        sequence_ids=_joined([tree.sequence_ids + start for tree, start in zip(trees, sequence, strict=True)]),
        turn_ids=_joined([tree.turn_ids + start for tree, start in zip(trees, turn, strict=True)]),
        advantage=_joined([tree.advantage for tree in trees]),
        logp_old=_joined([tree.logp_old for tree in trees]),
    )


def _starts(sizes: Sequence[int]) -> list[int]:
    """The offsets of consecutive stretches."""
    return list(itertools.accumulate(sizes[:-1], initial=0))


def _joined(parts: Sequence[Ints] | Sequence[Floats]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts))
