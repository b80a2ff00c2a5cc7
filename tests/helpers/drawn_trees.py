"""Trees drawn by hand from parents and entropies, and the loop of ``grow`` without an environment or a policy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from at2po_agent.method.expansion import Expansion
from at2po_agent.method.tree import ROOT, Branch, TurnNode, TurnTree
from tests.helpers.places import GOLDEN


def draw(
    parents: Sequence[int],
    entropies: Sequence[float] | None = None,
    groups: Sequence[int] | None = None,
) -> TurnTree:
    """A finished tree; ``parents[0]`` is the root's −1.

    Nodes without children are leaves. Every turn has one token, so that its entropy is exactly the given one. Without
    ``groups`` every turn under the root starts a group of its own.
    """
    tree = TurnTree(prompt=(1, 2))
    for n, parent in enumerate(parents):
        if n == ROOT:
            continue
        own = len(tree[ROOT].children) if parent == ROOT else tree[parent].group
        leaf = n not in parents
        tree.add(
            TurnNode(
                parent=parent,
                group=groups[n] if groups else own,
                depth=tree[parent].depth + 1,
                action=(n,),
                logp=(-entropies[n] if entropies else -1.0,),
                observation=() if leaf else (0,),
                leaf=leaf,
            )
        )
    return tree


def golden_trees() -> list[dict[str, Any]]:
    trees: list[dict[str, Any]] = json.loads((GOLDEN / "trees.json").read_text())["trees"]
    return trees


Turn = tuple[float, bool]  # entropy of a turn, and whether the path ends with it


def grow_scripted(
    expansion: Expansion,
    turn: Callable[[TurnTree, Branch], Turn],
    rng: np.random.Generator,
    order: Callable[[int], Sequence[int]] = range,
    after: Callable[[TurnTree, Sequence[Branch]], None] = lambda tree, branches: None,
    top_logprobs: Callable[[float], Any] = lambda entropy: (),
) -> TurnTree:
    """Grow a tree as ``grow`` does. In every event the open paths ``order(how many)`` take a turn."""
    tree, paths = TurnTree(prompt=(1, 2)), []
    while True:
        branches = tuple(expansion.propose(tree, rng))
        after(tree, branches)
        if branches:
            tree.proposals.append(branches)
            tree.open_paths += len(branches)
            paths += branches
        if not paths:
            assert tree.open_paths == 0
            return tree
        fresh, ended = [], []
        for i in order(len(paths)):
            entropy, end = turn(tree, paths[i])
            node, group = paths[i]
            logp, top = (-entropy,), top_logprobs(entropy)
            new = TurnNode(node, group, tree[node].depth + 1, (len(tree),), logp, leaf=end, top_logprobs=top)
            fresh.append(tree.add(new))
            paths[i] = Branch(fresh[-1], group)
            if end:
                ended.append(i)
        paths = [path for i, path in enumerate(paths) if i not in ended]
        tree.open_paths -= len(ended)
        tree.fresh = tuple(fresh)


def after_chains(tree: TurnTree, chains: int = 1) -> TurnTree:
    """As if all paths of the first proposal had just ended."""
    tree.proposals = [tuple(Branch(ROOT, group) for group in range(chains))]
    return tree


def coins(tokens: float) -> tuple[tuple[tuple[int, float], ...], ...]:
    """Top log-probabilities of fair coins: with a vocabulary of 2 each has a normalised entropy of exactly 1."""
    return (((0, math.log(0.5)), (1, math.log(0.5))),) * int(tokens)
