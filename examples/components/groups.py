"""Groups of your own: of each step's trees, those whose rewards differ most."""

from dataclasses import dataclass, replace

import numpy as np

from at2po_agent.method.groups import GrowMore, Rollout
from at2po_agent.method.tree import TurnTree


@dataclass(frozen=True)
class MostVaried:
    """``groups: {name: "examples.components.groups:MostVaried", share: 0.5}``."""

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}, it must be above 0 and at most 1")

    async def collect(self, grow: GrowMore, wanted: int) -> Rollout:
        """Grow one batch and train on a share of it; what is left out is counted as paid for."""
        batch = await grow(0)
        ranked = sorted(batch.trees, key=_spread, reverse=True)
        kept = max(1, round(self.share * len(ranked)))
        return replace(batch, trees=tuple(ranked[:kept]), surplus=tuple(ranked[kept:]))


def _spread(tree: TurnTree) -> float:
    return float(np.std([tree[leaf].reward or 0.0 for leaf in tree.leaves] or [0.0]))
