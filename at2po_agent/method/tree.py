"""``TurnTree``: one question's tree of turns, from search to packed update.

A node is one turn. It stores only what it adds: the action tokens that the policy sampled, and the tokens of the
observation that the action produced (for the root: the prompt). So siblings share their prompt by construction, and
every token of the tree is stored, and later forwarded, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    version: int = 0  # of the weights that sampled the action's first token
    straddles: bool = False  # the weights changed within the action: ``logp`` is of more than one version
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
        if not 0 <= node.parent < len(self.nodes):
            raise ValueError(f"there is no node {node.parent} for a child")
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

    def prune(self) -> int:
        """Remove the nodes that lead to no scored leaf (infrastructure ended their paths); return how many there were.

        The others keep their order and get new indices, also in ``proposals`` and ``fresh``; proposals under a removed
        node go with it. The root stays.

        Raises:
            ValueError: paths are still open, so a node without a leaf may yet get one.
        """
        if self.open_paths:
            raise ValueError(f"{self.open_paths} paths are still open: prune a tree when it is grown")
        kept = sorted({ROOT}.union(*(path for _, path in self.trajectories())))
        removed = len(self.nodes) - len(kept)
        if not removed:
            return 0
        new = {old: index for index, old in enumerate(kept)}
        self.nodes = [self.nodes[old] for old in kept]
        for node in self.nodes:
            node.parent = new.get(node.parent, -1)
            node.children = [new[child] for child in node.children if child in new]
        surviving = (
            tuple(b._replace(node=new[b.node]) for b in branches if b.node in new) for branches in self.proposals
        )
        self.proposals = [branches for branches in surviving if branches]
        self.fresh = tuple(new[index] for index in self.fresh if index in new)
        return removed

    def to_json(self, encode_snapshot: Callable[[Any], Any] | None = None) -> dict[str, Any]:
        """Everything needed to re-open the tree, as JSON values; ``depth`` and ``children`` follow from the rest.

        Args:
            encode_snapshot: turns a node's snapshot into JSON values. Without it snapshots are not stored, and the
                re-opened tree can be looked at and trained on, but not grown.
        """

        def stored(node: TurnNode) -> dict[str, Any]:
            values = {name: getattr(node, name) for name in _STORED}
            if encode_snapshot is not None and node.snapshot is not None:
                values["snapshot"] = encode_snapshot(node.snapshot)
            return values

        return {
            "question_id": self.question_id,
            "nodes": [stored(node) for node in self.nodes],
            "proposals": self.proposals,
            "open_paths": self.open_paths,
            "fresh": self.fresh,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], decode_snapshot: Callable[[Any], Any] | None = None) -> TurnTree:
        """Re-open what ``to_json`` wrote, before or after a trip through a JSON file.

        Args:
            stored: the value of ``to_json``.
            decode_snapshot: the inverse of ``encode_snapshot``. Without it the nodes have no snapshots.

        Raises:
            ValueError: ``stored`` is not a stored tree; the message names what is missing or wrong.
        """
        try:
            root, *turns = (_node(values, decode_snapshot) for values in stored["nodes"])
            tree = cls(root.observation, root.snapshot, stored["question_id"])
            for node in turns:
                node.depth = tree[node.parent].depth + 1
                tree.add(node)
            tree.proposals = [tuple(Branch(*branch) for branch in branches) for branches in stored["proposals"]]
            tree.open_paths = stored["open_paths"]
            tree.fresh = tuple(stored["fresh"])
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"not a stored tree: {type(error).__name__}: {error}") from error
        return tree


_STORED = (
    "parent",
    "group",
    "action",
    "logp",
    "observation",
    "leaf",
    "reward",
    "ended",
    "top_logprobs",
    "version",
    "straddles",
    "info",
)


def _node(values: Mapping[str, Any], decode_snapshot: Callable[[Any], Any] | None) -> TurnNode:
    node = TurnNode(depth=0, **{name: values[name] for name in _STORED})
    node.action, node.logp, node.observation = tuple(node.action), tuple(node.logp), tuple(node.observation)
    node.top_logprobs = tuple(tuple((token, logp) for token, logp in position) for position in node.top_logprobs)
    node.info = dict(node.info)
    if decode_snapshot is not None and "snapshot" in values:
        node.snapshot = decode_snapshot(values["snapshot"])
    return node
