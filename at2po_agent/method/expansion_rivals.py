"""Tree expansion of AT²PO's rivals: Tree-GRPO's random nodes, and AEPO's branches while chains run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from at2po_agent.method.expansion import at_least, draw, new_chains
from at2po_agent.method.tree import ROOT, Branch, TurnNode, TurnTree


@dataclass(frozen=True)
class TreeGRPOExpansion:
    """Tree-GRPO (arXiv 2509.21240): ``M`` trees under one prompt, each grown by ``N`` random nodes a round.

    A tree is a ``group``: one initial chain and what branches off it. A picked node is continued: the new child is
    sampled **under the node itself**. After ``L`` rounds there are ``M·(L·N + 1)`` leaves; here the number of leaves
    is given, and the last round is cut to meet it. A tree without non-leaf turns gets new chains of its own group.
    """

    trees: int = 2  # M, of a question
    per_round: int = 2  # N, turns that are continued in a round, for each tree
    leaves: int = 16  # of all trees of a question
    top_logprobs: ClassVar[int] = 0

    def __post_init__(self) -> None:
        at_least(1, trees=self.trees, per_round=self.per_round)
        at_least(self.trees, leaves=self.leaves)

    def propose(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[Branch]:
        """One chain for each tree; then, whenever all paths have ended, the next round."""
        if not tree.proposals:
            return new_chains(tree, self.trees)
        if tree.open_paths:
            return ()
        missing, inner = self.leaves - tree.started, tree.inner_turns()
        branches = []
        for group in range(self.trees):
            share = missing // self.trees + (group < missing % self.trees)
            own = [n for n in inner if tree[n].group == group]
            branches += [Branch(n, group) for n in draw(own or [ROOT], min(self.per_round, share), rng)]
        return branches


@dataclass(frozen=True)
class EntropyBalanced:
    """AEPO (arXiv 2510.14545): branch while the chains run, where entropy rises, up to ``leaves`` paths.

    After every tool result of a path, while the budget has room,

        H = Σ −p·log p / log|vocab|       over the top-10 log-probabilities of the turn's first 20 tokens
        P = (U(0,1) + 0.2·(H_now − H_first_turn)) · max(0, 1 − 0.05·consecutive_branches),   clamped to [0, 1]

    and the path branches **under the turn itself** where ``P ≥ 0.5``. What is left of the budget when all paths have
    ended is filled with fresh chains. ``consecutive_branches`` counts the turns right before this one on its path that
    branched; the official code counts rounds of its lock-step loop instead, which would depend on latency here.

    With ``dynamic_start`` a first chain decides how many there are, as the paper's balanced budget does:

        M = min(n, max(1, ⌊n·σ(0.5·(H_root − H_tool))⌋ + 1))       n = leaves

    with ``H_root`` the ``H`` of its first turn and ``H_tool`` the mean of its later ones (``H_root`` where it called no
    tool). It is the first of the ``M`` chains, and may branch once they are counted; the official code throws it away.
    """

    vocab_size: int | None = None  # None: the policy's own, once a run opens
    chains: int = 8  # that a tree begins with
    leaves: int = 16  # of a tree
    entropy_weight: float = 0.2  # of H_now − H_first_turn in P
    branch_penalty: float = 0.05  # in P, for each consecutive branch
    threshold: float = 0.5  # branch where P is as much or more
    first_tokens: int = 20  # of a turn, that H is over
    top_logprobs: int = 10  # at each position, that H is over
    dynamic_start: bool = False  # a first chain decides how many there are, in place of chains

    def __post_init__(self) -> None:
        if self.vocab_size is not None:
            at_least(2, vocab_size=self.vocab_size)
        at_least(1, chains=self.chains, first_tokens=self.first_tokens, top_logprobs=self.top_logprobs)
        at_least(self.chains, leaves=self.leaves)

    def propose(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[Branch]:
        """The chains; a branch at any fresh turn that earns one; at the end the chains that are missing."""
        if not tree.proposals:
            return new_chains(tree, 1 if self.dynamic_start else self.chains)
        starting = self.dynamic_start and len(tree.proposals) == 1
        if starting and tree.open_paths:
            return ()
        branches = new_chains(tree, self.start(tree) - 1) if starting else []
        missing = self.leaves - tree.started
        for n in tree.inner_turns() if starting else tree.fresh:
            if len(branches) < missing and not tree[n].leaf and self._probability(tree, n, rng) >= self.threshold:
                branches.append(Branch(n, tree[n].group))
        if missing and not branches and not tree.open_paths:
            return new_chains(tree, missing)
        return branches

    def start(self, tree: TurnTree) -> int:
        """``M`` from the first chain of ``tree``, which counts as even where infrastructure ended it at once."""
        first, *later = [self.entropy(turn) for turn in tree.nodes[1:]] or [0.0]
        rise = first - (sum(later) / len(later) if later else first)
        return min(self.leaves, max(1, math.floor(self.leaves / (1 + math.exp(-0.5 * rise))) + 1))

    def _probability(self, tree: TurnTree, n: int, rng: np.random.Generator) -> float:
        rise = self.entropy(tree[n]) - self.entropy(tree[tree.path(n)[0]])
        penalty = max(0.0, 1.0 - self.branch_penalty * _consecutive_branches(tree, n))
        return min(1.0, max(0.0, (rng.random() + self.entropy_weight * rise) * penalty))

    def entropy(self, turn: TurnNode) -> float:
        """The ``H`` above, of a turn's first tokens.

        Raises:
            ValueError: the policy reported no top log-probabilities, or ``vocab_size`` is not known.
        """
        if self.vocab_size is None:
            raise ValueError("AEPO's expansion needs vocab_size, the number of the policy's token ids")
        if not turn.top_logprobs:
            raise ValueError(
                f"AEPO's expansion needs top log-probabilities: sample with top_logprobs={self.top_logprobs}"
            )
        top = [logp for position in turn.top_logprobs[: self.first_tokens] for _, logp in position[: self.top_logprobs]]
        return -sum(math.exp(logp) * logp for logp in top) / math.log(self.vocab_size)


def _consecutive_branches(tree: TurnTree, n: int) -> int:
    branched = {branch.node for branches in tree.proposals for branch in branches} - {ROOT}
    run, node = 0, tree[n].parent
    while node in branched:
        run, node = run + 1, tree[node].parent
    return run
