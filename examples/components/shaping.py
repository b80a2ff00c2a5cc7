"""Shaping of your own: every turn costs a little, so that of two right answers the shorter one is worth more."""

from dataclasses import dataclass

from at2po_agent.method.tree import TurnTree


@dataclass(frozen=True)
class TurnCost:
    """``shaping: {name: "examples.components.shaping:TurnCost", cost: 0.05}``."""

    cost: float = 0.05

    def __post_init__(self) -> None:
        if not self.cost >= 0:
            raise ValueError(f"cost is {self.cost}, it must be at least 0")

    def __call__(self, tree: TurnTree) -> dict[int, float]:
        """The reward of every leaf as credit sees it."""
        return {leaf: (tree[leaf].reward or 0.0) - self.cost * tree[leaf].depth for leaf in tree.leaves}
