"""``TurnTree``: one question's tree of turns, from search to packed update.

A node is one turn. It stores only what it adds: the action tokens that the policy sampled, and the tokens of the
observation that the action produced (for the root: the prompt). So siblings share their prompt by construction, and
every token of the tree is stored, and later forwarded, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

ROOT = 0


class Branch(NamedTuple):
    """A proposal: sample a new child under ``node``; its path belongs to ``group``."""

    node: int
    group: int


@dataclass
class TurnNode:
    """One turn of a tree. The root is the prompt: no action, its ``observation`` is the prompt itself."""

    parent: int  # index of the parent node, -1 for the root
    group: int  # index of the initial chain it descends from, -1 for the root
    depth: int  # turns from the root, 0 for the root
    action: tuple[int, ...] = ()  # ids sampled by the policy
    logp: tuple[float, ...] = ()  # [len(action)], nats, of the sampling distribution
    observation: tuple[int, ...] = ()  # ids that the action produced; () at a leaf
    snapshot: Any = None  # the environment after this turn
    children: list[int] = field(default_factory=list)  # in creation order
    leaf: bool = False
    reward: float | None = None  # of the episode that ended here; None on inner nodes
    ended: str | None = None  # why the episode ended here
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] = ()  # [len(action)][k] of (id, logprob), if asked for
    version: int = 0  # of the weights that sampled the action
    info: dict[str, Any] = field(default_factory=dict)  # what the environment said at a leaf: em, f1, searches, …

    @property
    def entropy(self) -> float:
        """``H(n) = −(1/|a_n|) Σ_t logp_old[t]``, nats per token: a Monte-Carlo estimate of the policy's entropy.

        0 for the root, which has no action.
        """
        return -sum(self.logp) / len(self.logp) if self.logp else 0.0


class TurnTree:
    """Nodes in creation order; node 0 is the root. A child's index is larger than its parent's.

    ``proposals``, ``open_paths`` and ``fresh`` are kept by ``grow``: what an expansion strategy must remember lives in
    the tree.
    """

    def __init__(self, prompt: Sequence[int], snapshot: Any = None, question_id: str = "") -> None:
        self.nodes = [TurnNode(parent=-1, group=-1, depth=0, observation=tuple(prompt), snapshot=snapshot)]
        self.question_id = question_id
        self.proposals: list[tuple[Branch, ...]] = []  # every non-empty answer of the expansion, in order
        self.open_paths = 0  # paths that have not ended yet
        self.fresh: tuple[int, ...] = ()  # nodes added since the expansion was last asked

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, index: int) -> TurnNode:
        return self.nodes[index]

    def add(self, node: TurnNode) -> int:
        """Append ``node`` under its parent and return its index."""
        if not node.action:
            raise ValueError("a turn has at least one generated token")
        if self.nodes[node.parent].leaf:
            raise ValueError(f"node {node.parent} is a leaf and cannot have children")
        self.nodes.append(node)
        index = len(self.nodes) - 1
        self.nodes[node.parent].children.append(index)
        return index

    @property
    def started(self) -> int:
        """Paths begun so far: initial chains and branches."""
        return sum(len(proposal) for proposal in self.proposals)

    def path(self, index: int) -> list[int]:
        """Node indices from the root (excluded) to ``index``."""
        found = []
        while index > ROOT:
            found.append(index)
            index = self.nodes[index].parent
        return found[::-1]

    def prompt_ids(self, index: int) -> tuple[int, ...]:
        """Ids that a child of node ``index`` is sampled from: everything from the root to its observation."""
        ids = list(self.nodes[ROOT].observation)
        for i in self.path(index):
            ids += self.nodes[i].action
            ids += self.nodes[i].observation
        return tuple(ids)

    @property
    def leaves(self) -> list[int]:
        """Indices of the scored leaves, in creation order."""
        return [i for i, node in enumerate(self.nodes) if node.leaf]

    def inner_turns(self) -> list[int]:
        """Indices of the non-leaf turns, root excluded, in creation order."""
        return [i for i, node in enumerate(self.nodes) if i != ROOT and not node.leaf]

    def trajectories(self) -> Iterator[tuple[int, list[int]]]:
        """Yield ``(leaf, path)`` for every scored leaf."""
        for leaf in self.leaves:
            yield leaf, self.path(leaf)
