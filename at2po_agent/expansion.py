"""(1) Entropy-guided tree expansion, and its rivals: under which nodes to sample the next children.

AT²PO (arXiv 2601.04767, tree expansion; https://arxiv.org/abs/2601.04767). ``M`` chains run to their ends. Then ``L``
times the ``K`` non-leaf turns with the highest

    score(n) = H(n) − α · max(0, |children(parent(n))| − 1),    H(n) = −(1/|a_n|) Σ_t logp_old[t]

are picked at once (scores are not updated inside a round; ties go to the older turn; with fewer than ``K`` candidates
the best are taken again, in order), and each is sampled afresh from the state before it: a new child of its parent,
followed to its end. Leaves: ``N = M + K·L``; the paper's run has 10 + 6·2 = 22.

``grow`` asks every strategy the same question, ``propose(tree, rng)``: once while the tree is only its root, then
after every event (some turns ended). A strategy sees ``tree.fresh`` (nodes added since it was last asked),
``tree.open_paths`` and ``tree.proposals`` (its earlier answers that were not empty), and returns the nodes under which
to sample one new child each. It is frozen configuration: what it must remember is in the tree.

A branch belongs to the group of the turn that proposed it; one that no turn proposed (an initial chain, or a
path that the root itself proposed) starts a new group.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count, cycle, islice
from typing import ClassVar, Literal, Protocol

import numpy as np

from at2po_agent.tree import ROOT, Branch, TurnNode, TurnTree

Candidates = Literal["turns", "turns+root"]


class Expansion(Protocol):
    """Where to grow a tree next."""

    @property
    def leaves(self) -> int:
        """Leaves of a tree that is grown to its end."""
        ...

    @property
    def top_logprobs(self) -> int:
        """How many of the most likely tokens the policy must report at every position; 0 for most strategies."""
        ...

    def propose(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[Branch]:
        """Return the nodes under which to sample a new child now; ``()`` to wait, or to stop where nothing is open."""
        ...


@dataclass(frozen=True)
class Chains:
    """``n`` independent chains, no tree: GRPO, DAPO, GSPO, and the paper's ablation without the tree."""

    n: int = 16
    top_logprobs: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _at_least(1, n=self.n)

    @property
    def leaves(self) -> int:
        """One for each chain."""
        return self.n

    def propose(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[Branch]:
        """All chains at once, then nothing."""
        return () if tree.proposals else _new_chains(tree, self.n)


@dataclass(frozen=True)
class EntropyGuided:
    """AT²PO: sample the most uncertain turns again, with a penalty on turns that have many siblings already.

    ``candidates="turns+root"`` adds the root, as the official code does, with ``H = 0`` and the penalty on its own
    children. Where there is no candidate (every chain answered at once) the root takes the whole round, so that the
    budget is kept.
    """

    chains: int = 10  # M
    per_round: int = 6  # K
    rounds: int = 2  # L
    alpha: float = 0.05  # nats per sibling
    candidates: Candidates = "turns"
    top_logprobs: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _at_least(1, chains=self.chains, per_round=self.per_round)
        _at_least(0, rounds=self.rounds, alpha=self.alpha)

    @property
    def leaves(self) -> int:
        """``M + K·L``."""
        return self.chains + self.per_round * self.rounds

    def propose(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[Branch]:
        """The chains; then, whenever all paths have ended, the next round."""
        if not tree.proposals:
            return _new_chains(tree, self.chains)
        if not _round_is_due(tree, self.rounds):
            return ()
        ranked = sorted(_candidates(tree, self.candidates), key=lambda n: -self.score(tree, n))  # stable: ties by age
        return _sample_again(tree, islice(cycle(ranked or [ROOT]), self.per_round))

    def score(self, tree: TurnTree, n: int) -> float:
        """``H(n) − α · max(0, |children(parent(n))| − 1)``, nats per token; the root counts its own children."""
        siblings = tree[_parent(tree, n)].children
        return tree[n].entropy - self.alpha * max(0, len(siblings) - 1)


@dataclass(frozen=True)
class RandomExpansion:
    """The paper's ablation without entropy: as ``EntropyGuided``, but the picks are uniform over the same candidates.

    They are drawn without replacement; with fewer than ``K`` candidates the drawn order is gone through again.
    """

    chains: int = 10  # M
    per_round: int = 6  # K
    rounds: int = 2  # L
    candidates: Candidates = "turns"
    top_logprobs: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _at_least(1, chains=self.chains, per_round=self.per_round)
        _at_least(0, rounds=self.rounds)

    @property
    def leaves(self) -> int:
        """``M + K·L``."""
        return self.chains + self.per_round * self.rounds

    def propose(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[Branch]:
        """The chains; then, whenever all paths have ended, the next round."""
        if not tree.proposals:
            return _new_chains(tree, self.chains)
        if not _round_is_due(tree, self.rounds):
            return ()
        drawn = _draw(_candidates(tree, self.candidates) or [ROOT], self.per_round, rng)
        return _sample_again(tree, drawn)


@dataclass(frozen=True)
class TreeGRPOExpansion:
    """Tree-GRPO (arXiv 2509.21240): ``M`` trees under one prompt, each grown by ``N`` random nodes a round.

    A tree is a ``group``: one initial chain and what branches off it. A picked node is continued: the new child is
    sampled **under the node itself**. After ``L`` rounds there are ``M·(L·N + 1)`` leaves; here the number of leaves
    is given, and the last round is cut to meet it. A tree without non-leaf turns gets new chains of its own group.
    """

    trees: int = 2  # M
    per_round: int = 2  # N, for each tree
    leaves: int = 16
    top_logprobs: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _at_least(1, trees=self.trees, per_round=self.per_round)
        _at_least(self.trees, leaves=self.leaves)

    def propose(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[Branch]:
        """One chain for each tree; then, whenever all paths have ended, the next round."""
        if not tree.proposals:
            return _new_chains(tree, self.trees)
        if tree.open_paths:
            return ()
        missing, inner = self.leaves - tree.started, tree.inner_turns()
        branches = []
        for group in range(self.trees):
            share = missing // self.trees + (group < missing % self.trees)
            own = [n for n in inner if tree[n].group == group]
            branches += [Branch(n, group) for n in _draw(own or [ROOT], min(self.per_round, share), rng)]
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
    chains: int = 8
    leaves: int = 16
    entropy_weight: float = 0.2
    branch_penalty: float = 0.05
    threshold: float = 0.5
    first_tokens: int = 20
    top_logprobs: int = 10
    dynamic_start: bool = False

    def __post_init__(self) -> None:
        if self.vocab_size is not None:
            _at_least(2, vocab_size=self.vocab_size)
        _at_least(1, chains=self.chains, first_tokens=self.first_tokens, top_logprobs=self.top_logprobs)
        _at_least(self.chains, leaves=self.leaves)

    def propose(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[Branch]:
        """The chains; a branch at any fresh turn that earns one; at the end the chains that are missing."""
        if not tree.proposals:
            return _new_chains(tree, 1 if self.dynamic_start else self.chains)
        starting = self.dynamic_start and len(tree.proposals) == 1
        if starting and tree.open_paths:
            return ()
        branches = _new_chains(tree, self.start(tree) - 1) if starting else []
        missing = self.leaves - tree.started
        for n in tree.inner_turns() if starting else tree.fresh:
            if len(branches) < missing and not tree[n].leaf and self._probability(tree, n, rng) >= self.threshold:
                branches.append(Branch(n, tree[n].group))
        if missing and not branches and not tree.open_paths:
            return _new_chains(tree, missing)
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


def _new_chains(tree: TurnTree, n: int) -> list[Branch]:
    return _sample_again(tree, [ROOT] * n)


def _sample_again(tree: TurnTree, picks: Iterable[int]) -> list[Branch]:
    """Each picked turn afresh: a new child of its parent, in its group. The root starts a new group."""
    used = [branch.group for branches in tree.proposals for branch in branches]
    new_group = count(1 + max(used, default=-1))
    return [Branch(_parent(tree, n), tree[n].group if n != ROOT else next(new_group)) for n in picks]


def _parent(tree: TurnTree, n: int) -> int:
    return max(ROOT, tree[n].parent)


def _candidates(tree: TurnTree, which: Candidates) -> list[int]:
    return ([ROOT] if which == "turns+root" else []) + tree.inner_turns()


def _round_is_due(tree: TurnTree, rounds: int) -> bool:
    return tree.open_paths == 0 and len(tree.proposals) <= rounds  # the first proposal was the chains


def _draw(candidates: Sequence[int], k: int, rng: np.random.Generator) -> list[int]:
    order = (candidates[i] for i in rng.permutation(len(candidates)))
    return list(islice(cycle(order), k))


def _consecutive_branches(tree: TurnTree, n: int) -> int:
    branched = {branch.node for branches in tree.proposals for branch in branches} - {ROOT}
    run, node = 0, tree[n].parent
    while node in branched:
        run, node = run + 1, tree[node].parent
    return run


def _at_least(low: float, **values: float) -> None:
    for name, value in values.items():
        if not value >= low:
            raise ValueError(f"{name} is {value}, it must be at least {low}")
