"""(1) Entropy-guided tree expansion: under which nodes to sample the next children.

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

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count, cycle, islice
from typing import ClassVar, Literal, Protocol

import numpy as np

from at2po_agent.method.tree import ROOT, Branch, TurnTree

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

    n: int = 16  # chains, each a leaf
    top_logprobs: ClassVar[int] = 0

    def __post_init__(self) -> None:
        at_least(1, n=self.n)

    @property
    def leaves(self) -> int:
        """One for each chain."""
        return self.n

    def propose(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[Branch]:
        """All chains at once, then nothing."""
        return () if tree.proposals else new_chains(tree, self.n)


@dataclass(frozen=True)
class _InRounds(ABC):
    """``M`` chains, then ``L`` rounds of ``K`` turns that are sampled again, each round when all paths have ended."""

    chains: int = 10  # M, that run first
    per_round: int = 6  # K, turns that are sampled again in a round
    rounds: int = 2  # L
    top_logprobs: ClassVar[int] = 0

    def __post_init__(self) -> None:
        at_least(1, chains=self.chains, per_round=self.per_round)
        at_least(0, rounds=self.rounds)

    @property
    def leaves(self) -> int:
        """``M + K·L``."""
        return self.chains + self.per_round * self.rounds

    def propose(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[Branch]:
        """The chains; then, whenever all paths have ended, the next round."""
        if not tree.proposals:
            return new_chains(tree, self.chains)
        # The first proposal was the chains, so there were len(proposals) − 1 rounds.
        if tree.open_paths or len(tree.proposals) > self.rounds:
            return ()
        return _sample_again(tree, islice(cycle(self._ranked(tree, rng)), self.per_round))

    @abstractmethod
    def _ranked(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[int]:
        """All candidates of a round, at least one, in the order in which they are picked."""


@dataclass(frozen=True)
class EntropyGuided(_InRounds):
    """AT²PO: sample the most uncertain turns again, with a penalty on turns that have many siblings already.

    ``candidates="turns+root"`` adds the root, as the official code does, with ``H = 0`` and the penalty on its own
    children. Where there is no candidate (every chain answered at once) the root takes the whole round, so that the
    budget is kept.
    """

    alpha: float = 0.05  # α, penalty in nats for each sibling
    candidates: Candidates = "turns"  # which turns can be sampled again

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, alpha=self.alpha)

    def _ranked(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[int]:
        # Sorting is stable: ties go to the older turn.
        return sorted(_candidates(tree, self.candidates), key=lambda n: -self.score(tree, n))

    def score(self, tree: TurnTree, n: int) -> float:
        """``H(n) − α · max(0, |children(parent(n))| − 1)``, nats per token; the root counts its own children."""
        siblings = tree[_parent(tree, n)].children
        return tree[n].entropy - self.alpha * max(0, len(siblings) - 1)


@dataclass(frozen=True)
class RandomExpansion(_InRounds):
    """The paper's ablation without entropy: as ``EntropyGuided``, but the picks are uniform over the same candidates.

    They are drawn without replacement; with fewer than ``K`` candidates the drawn order is gone through again.
    """

    candidates: Candidates = "turns"  # which turns can be sampled again

    def _ranked(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[int]:
        candidates = _candidates(tree, self.candidates)
        return draw(candidates, len(candidates), rng)


def new_chains(tree: TurnTree, n: int) -> list[Branch]:
    """``n`` children of the root, each of a group of its own."""
    return _sample_again(tree, [ROOT] * n)


def _sample_again(tree: TurnTree, picks: Iterable[int]) -> list[Branch]:
    """Each picked turn afresh: a new child of its parent, in its group. The root starts a new group."""
    used = [branch.group for branches in tree.proposals for branch in branches]
    new_group = count(1 + max(used, default=-1))
    return [Branch(_parent(tree, n), tree[n].group if n != ROOT else next(new_group)) for n in picks]


def _parent(tree: TurnTree, n: int) -> int:
    return max(ROOT, tree[n].parent)


def _candidates(tree: TurnTree, which: Candidates) -> list[int]:
    """Turns that a round may pick; the root where there is none."""
    return ([ROOT] if which == "turns+root" else []) + tree.inner_turns() or [ROOT]


def draw(candidates: Sequence[int], k: int, rng: np.random.Generator) -> list[int]:
    """``k`` of the candidates without replacement; with fewer, the drawn order is gone through again."""
    order = (candidates[i] for i in rng.permutation(len(candidates)))
    return list(islice(cycle(order), k))


def at_least(low: float, **values: float) -> None:
    """Refuse settings below ``low`` by name.

    Raises:
        ValueError: one is.
    """
    for name, value in values.items():
        if not value >= low:
            raise ValueError(f"{name} is {value}, it must be at least {low}")
