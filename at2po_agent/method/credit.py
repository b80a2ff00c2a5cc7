"""(2) Turn-wise credit assignment, and its rivals: an advantage for every turn of every trajectory.

AT²PO (arXiv 2601.04767, turn-wise credit; https://arxiv.org/abs/2601.04767). Inside one tree, with leaf rewards ``r``:

    z       = (r − mean r) / (std r + 1e−6)          population std, over the tree's leaves
    V(leaf) = z,    V(n) = Σ_{c ∈ children(n)} w_c V(c)
    w       = softmax_c(H(c))  |  1/|children|  |  leaves under c / leaves under n
              child_softmax       child_mean       leaf_mean (the plain mean over descendant leaves)
    A(n)    = V(n)  |  V(n) − V(parent)  |  V(n) − V(root)  |  the sum of the two differences
              node_value   diff_parent        diff_global        diff_local_global

Every generated token of turn ``n`` carries ``A(n)``. A tree whose rewards are all equal gives exactly zeros.

A credit is called with a pruned tree and the reward of each of its leaves. It returns one list per leaf, in the order
of ``tree.leaves``, with one advantage per turn on that leaf's path: a rival may value one shared turn differently on
each leaf that passes through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from at2po_agent.method.tree import ROOT, TurnTree

FloatArray = NDArray[np.float64]
Std = Literal["population", "unbiased"]
EPSILON = 1e-6


class Credit(Protocol):
    """Advantages of a tree's turns."""

    def __call__(self, tree: TurnTree, rewards: Mapping[int, float]) -> list[list[float]]:
        """Return ``advantages[leaf][turn]``: leaves in the order of ``tree.leaves``, turns from the root down."""
        ...


@dataclass(frozen=True)
class TurnCredit:
    """AT²PO: values from the leaves up, weighted by the children's entropies, and an advantage per node."""

    value: Literal["child_softmax", "child_mean", "leaf_mean"] = "child_softmax"  # w above
    advantage: Literal["node_value", "diff_parent", "diff_global", "diff_local_global"] = "node_value"  # A(n) above

    def __call__(self, tree: TurnTree, rewards: Mapping[int, float]) -> list[list[float]]:
        """``A(n)`` of every turn on every path; the same on all leaves that share the turn."""
        advantages = self.advantages(tree, self.values(tree, rewards))
        return [[float(advantages[n]) for n in path] for _, path in tree.trajectories()]

    def values(self, tree: TurnTree, rewards: Mapping[int, float]) -> FloatArray:
        """``V(n)`` of every node.

        Args:
            tree: pruned, so that every node leads to a leaf.
            rewards: of every leaf, by node index.

        Returns:
            [len(tree)] values, the root's first.

        Raises:
            ValueError: a reward is missing or is not a leaf's, or a node leads to no leaf.
        """
        value, leaves_under = np.zeros(len(tree)), np.zeros(len(tree))
        value[tree.leaves] = z_scores(_leaf_rewards(tree, rewards), "population")
        leaves_under[tree.leaves] = 1
        for n in reversed(range(len(tree))):  # a child's index is larger than its parent's
            children = tree[n].children
            if children:
                entropy = np.array([tree[c].entropy for c in children])
                value[n] = self._weights(entropy, leaves_under[children]) @ value[children]
                leaves_under[n] = leaves_under[children].sum()
            elif not tree[n].leaf:
                raise ValueError(f"node {n} leads to no leaf: prune the tree before crediting it")
        return value

    def advantages(self, tree: TurnTree, values: FloatArray) -> FloatArray:
        """``A(n)`` of every node from ``V(n)``, both [len(tree)]; the root counts as its own parent."""
        from_parent = values - values[[max(ROOT, node.parent) for node in tree.nodes]]
        from_root = values - values[ROOT]
        forms: dict[str, FloatArray] = {
            "node_value": values,
            "diff_parent": from_parent,
            "diff_global": from_root,
            "diff_local_global": from_parent + from_root,
        }
        return forms[self.advantage]

    def _weights(self, entropy: FloatArray, leaves: FloatArray) -> FloatArray:
        """One weight per child, adding up to 1; ``entropy`` and ``leaves`` are [children]."""
        if self.value == "child_softmax":
            scores = np.exp(entropy - entropy.max())
        elif self.value == "child_mean":
            scores = np.ones_like(entropy)
        else:
            scores = leaves
        weights: FloatArray = scores / scores.sum()
        return weights


@dataclass(frozen=True)
class LeafCredit:
    """The leaf's ``z`` on every turn of its trajectory: GRPO (arXiv 2402.03300) and the ablation without turn credit.

    GRPO's code divides by the unbiased std; AT²PO's, and so its ablation, by the population std.
    """

    std: Std = "population"  # that z divides by

    def __call__(self, tree: TurnTree, rewards: Mapping[int, float]) -> list[list[float]]:
        """One value per leaf, repeated along its path."""
        return _along_paths(tree, z_scores(_leaf_rewards(tree, rewards), self.std))


@dataclass(frozen=True)
class TreeGRPOCredit:
    """Tree-GRPO (arXiv 2509.21240): a leaf's ``z`` inside its tree plus its ``z`` among all leaves of the question.

    A tree is a ``group``; std is unbiased. ``nested`` is what the official code does instead: ``z`` among all leaves of
    the question first, then the ``z`` of that inside each tree. A tree with a single leaf has 0 inside.
    """

    nested: bool = False  # z of the question first, then inside each tree

    def __call__(self, tree: TurnTree, rewards: Mapping[int, float]) -> list[list[float]]:
        """One value per leaf, repeated along its path; a shared turn gets another value on every leaf."""
        reward = _leaf_rewards(tree, rewards)
        group = np.array([tree[leaf].group for leaf in tree.leaves])
        across = z_scores(reward, "unbiased")
        inside, within = np.zeros_like(reward), across if self.nested else reward
        for g in np.unique(group):
            inside[group == g] = z_scores(within[group == g], "unbiased")
        return _along_paths(tree, inside if self.nested else inside + across)


def z_scores(rewards: FloatArray, std: Std) -> FloatArray:
    """``(r − mean) / (std + 1e−6)`` of [N] rewards; exactly zeros where all are equal."""
    if rewards.size == 0 or rewards.min() == rewards.max():
        return np.zeros_like(rewards)
    scaled: FloatArray = (rewards - rewards.mean()) / (rewards.std(ddof=std == "unbiased") + EPSILON)
    return scaled


def _leaf_rewards(tree: TurnTree, rewards: Mapping[int, float]) -> FloatArray:
    leaves = tree.leaves
    if set(rewards) != set(leaves):
        wrong = sorted(set(rewards) ^ set(leaves))
        raise ValueError(f"rewards must be of the tree's leaves, each and no other; nodes {wrong} differ")
    return np.array([rewards[leaf] for leaf in leaves], dtype=np.float64)


def _along_paths(tree: TurnTree, of_leaf: FloatArray) -> list[list[float]]:
    return [[float(value)] * len(path) for value, (_, path) in zip(of_leaf, tree.trajectories(), strict=True)]
