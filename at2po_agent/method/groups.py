"""Choose the groups of a training step: all, or with dynamic sampling only those with a signal.

DAPO (arXiv 2503.14476, section 3.2, eq. 11; https://arxiv.org/abs/2503.14476): a group whose rewards are all equal has
no advantage and no gradient, so such groups make batches smaller than they look. Dynamic sampling leaves them out and
samples further questions until the batch is full of groups that have both better and worse rewards. What it sampled and
did not use was paid for: it is counted.

A group is the tree of one question, with chains or with branches.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from at2po_agent.method.tree import TurnTree


@dataclass(frozen=True)
class Rollout:
    """The trees of a batch of questions, in the order of the questions, and what is missing from them."""

    trees: tuple[TurnTree, ...]
    dropped: dict[str, str]  # question id → why it has no tree
    lost_paths: int  # paths that infrastructure ended for good
    questions: int  # that were drawn for it, one after another
    equal: tuple[TurnTree, ...] = ()  # left out by dynamic sampling: no two scored leaves differ in reward
    surplus: tuple[TurnTree, ...] = ()  # left out by dynamic sampling: the batch was full before them

    @classmethod
    def of(cls, parts: Sequence[Rollout]) -> Rollout:
        """A batch from its parts, each of which holds every tree that it grew."""
        return cls(
            trees=tuple(tree for part in parts for tree in part.trees),
            dropped={id: why for part in parts for id, why in part.dropped.items()},
            lost_paths=sum(part.lost_paths for part in parts),
            questions=sum(part.questions for part in parts),
        )

    @property
    def generated_tokens(self) -> int:
        """Tokens that the policy sampled, each once however many paths share it; also those of trees left out."""
        return tokens_of(self.trees) + self.unused_tokens

    @property
    def calls(self) -> int:
        """Turns that the environment answered: searches, tool calls. Counted as ``generated_tokens`` are.

        Also those whose answer did not fit, which ended their paths.
        """
        return sum(_calls_of(tree) for tree in self.trees + self.equal + self.surplus)

    @property
    def unused_tokens(self) -> int:
        """Tokens that were sampled for trees that dynamic sampling left out."""
        return tokens_of(self.equal + self.surplus)


def draw_questions(ids: Sequence[str], seed: int, first: int, n: int) -> list[str]:
    """``n`` question ids from position ``first`` of a run: each once an epoch, every epoch in an order of its own."""
    chosen = []
    for position in range(first, first + n):
        order = np.random.default_rng([seed, position // len(ids)]).permutation(len(ids))
        chosen.append(ids[order[position % len(ids)]])
    return chosen


GrowMore = Callable[[int], Awaitable[Rollout]]  # the trees of a batch of questions from the step's given one on


class Groups(Protocol):
    """A way to collect the trees of a step."""

    async def collect(self, grow: GrowMore, wanted: int) -> Rollout:
        """The trees of a step.

        Args:
            grow: grows the trees of ``wanted`` further questions; told how many the step has drawn before.
            wanted: trees in a full batch.
        """
        ...


@dataclass(frozen=True)
class AllGroups:
    """Every group of one batch of questions."""

    async def collect(self, grow: GrowMore, wanted: int) -> Rollout:
        """One batch."""
        return await grow(0)


@dataclass(frozen=True)
class DynamicSampling:
    """DAPO: batches of questions until ``wanted`` groups have unequal rewards, ``max_batches`` at most.

    The rewards are the episodes', before any shaping, as the paper's filter is on accuracy. What was found by then is
    trained on, though it may be less than a batch; what was found beyond ``wanted`` is left out, as in DAPO's code.
    """

    max_batches: int = 10  # of DAPO's scripts

    def __post_init__(self) -> None:
        if not self.max_batches >= 1:
            raise ValueError(f"max_batches is {self.max_batches}, it must be at least 1")

    async def collect(self, grow: GrowMore, wanted: int) -> Rollout:
        """As many batches as it takes."""
        batches: list[Rollout] = []
        mixed: list[TurnTree] = []
        while len(mixed) < wanted and len(batches) < self.max_batches:
            batches.append(await grow(sum(batch.questions for batch in batches)))
            mixed += [tree for tree in batches[-1].trees if has_unequal_rewards(tree)]
        return replace(
            Rollout.of(batches),
            trees=tuple(mixed[:wanted]),
            equal=tuple(tree for batch in batches for tree in batch.trees if not has_unequal_rewards(tree)),
            surplus=tuple(mixed[wanted:]),
        )


def has_unequal_rewards(tree: TurnTree) -> bool:
    """Whether two scored leaves of ``tree`` differ in the reward of their episodes."""
    return len({tree[leaf].reward for leaf in tree.leaves}) > 1


def _calls_of(tree: TurnTree) -> int:
    return len(tree.inner_turns()) + sum(tree[leaf].ended == "length_limit" for leaf in tree.leaves)


def tokens_of(trees: tuple[TurnTree, ...]) -> int:
    """Tokens that the policy sampled for ``trees``, each once however many paths share it."""
    return sum(len(node.action) for tree in trees for node in tree.nodes)
