"""Credit of your own: the leaf's reward above the tree's mean, less for turns that are further from the end."""

from collections.abc import Mapping
from dataclasses import dataclass

from at2po_agent.method.tree import TurnTree


@dataclass(frozen=True)
class Discounted:
    """``credit: {name: "examples.components.credit:Discounted", gamma: 0.9}``."""

    gamma: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}, it must be above 0 and at most 1")

    def __call__(self, tree: TurnTree, rewards: Mapping[int, float]) -> list[list[float]]:
        """An advantage for every turn of every leaf's path, from the root down."""
        mean = sum(rewards.values()) / len(rewards)
        return [
            [(rewards[leaf] - mean) * self.gamma ** (len(path) - 1 - turn) for turn in range(len(path))]
            for leaf, path in tree.trajectories()
        ]
