"""Shape a leaf's reward before credit is assigned: leave it, or subtract a penalty for length.

DAPO (arXiv 2503.14476, section 3.4, eq. 13, soft overlong punishment; https://arxiv.org/abs/2503.14476). For a response
of ``|y|`` tokens, with the maximum ``L_max`` and a buffer of ``L_cache`` tokens before it, the reward grows by

    0                                        |y| ≤ L_max − L_cache
    ((L_max − L_cache) − |y|) / L_cache      L_max − L_cache < |y| ≤ L_max
    −1                                       L_max < |y|

so that a path is told that it gets too long before it is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from at2po_agent.method.tree import TurnTree

CACHE_SHARE = 4096 / 20480  # L_cache / L_max of the paper's run


class Shaping(Protocol):
    """Rewards of a tree's leaves as credit assignment sees them."""

    def __call__(self, tree: TurnTree) -> dict[int, float]:
        """The reward of every scored leaf, by node index."""
        ...


@dataclass(frozen=True)
class NoShaping:
    """The reward that the episode ended with."""

    def __call__(self, tree: TurnTree) -> dict[int, float]:
        """Unchanged."""
        return {leaf: float(tree[leaf].reward or 0.0) for leaf in tree.leaves}


@dataclass(frozen=True)
class OverlongPenalty:
    """DAPO's soft overlong punishment, added to the episode's reward.

    ``|y|`` counts what ``rollout.max_response_tokens`` limits: the actions and the observations of a path, without the
    prompt. A path that the limit ended counts as longer than ``L_max``: it could not go on.
    """

    cache: int | None = None  # L_cache, tokens; None: a fifth of L_max, as in the paper's run
    max_response_tokens: int | None = None  # L_max; None: rollout.max_response_tokens, once a run opens

    def __post_init__(self) -> None:
        if self.cache is not None and not self.cache >= 1:
            raise ValueError(f"cache is {self.cache}, it must be at least 1")
        if self.cache is not None and self.max_response_tokens is not None and self.cache > self.max_response_tokens:
            raise ValueError(f"cache is {self.cache}, more than the {self.max_response_tokens} tokens of a response")

    def __call__(self, tree: TurnTree) -> dict[int, float]:
        """The episode's reward plus the penalty, which is between −1 and 0."""
        return {leaf: reward + self._penalty(tree, leaf) for leaf, reward in NoShaping()(tree).items()}

    def _penalty(self, tree: TurnTree, leaf: int) -> float:
        if tree[leaf].ended == "length_limit":
            return -1.0
        return self.penalty(sum(len(tree[n].action) + len(tree[n].observation) for n in tree.path(leaf)))

    def penalty(self, length: int) -> float:
        """Eq. 13 for a response of ``length`` tokens.

        Raises:
            ValueError: ``L_max`` is not known.
        """
        if self.max_response_tokens is None:
            raise ValueError("the overlong penalty needs max_response_tokens, the longest response allowed")
        cache = self.cache or max(1, round(CACHE_SHARE * self.max_response_tokens))
        over = length - (self.max_response_tokens - cache)
        return -min(1.0, max(0, over) / cache)
