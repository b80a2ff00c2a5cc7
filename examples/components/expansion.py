"""Expansion of your own: chains first, then the last turns of those that earned least are sampled again."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import ClassVar

import numpy as np

from at2po_agent.method.expansion import at_least, new_chains
from at2po_agent.method.tree import Branch, TurnTree


@dataclass(frozen=True)
class RetryWorst:
    """``expansion: {name: "examples.components.expansion:RetryWorst", chains: 4, retries: 4}``."""

    chains: int = 4
    retries: int = 4
    top_logprobs: ClassVar[int] = 0  # how many of the likeliest tokens it wants to see at every position

    def __post_init__(self) -> None:
        at_least(1, chains=self.chains, retries=self.retries)  # a ValueError becomes an error of the configuration

    @property
    def leaves(self) -> int:
        """Leaves of a whole tree."""
        return self.chains + self.retries

    def propose(self, tree: TurnTree, rng: np.random.Generator) -> Sequence[Branch]:
        """The chains, then once all have ended the retries, then nothing."""
        if not tree.proposals:
            return new_chains(tree, self.chains)
        if tree.open_paths or len(tree.proposals) > 1 or not tree.leaves:
            return ()
        worst = sorted(tree.leaves, key=lambda leaf: tree[leaf].reward or 0.0)
        return [Branch(tree[leaf].parent, tree[leaf].group) for leaf in islice(cycle(worst), self.retries)]
