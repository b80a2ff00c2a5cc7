"""Rewards of your own for search questions: a function, or a dataclass where it has settings."""

from dataclasses import dataclass

from at2po_env.scoring import Outcome


def partial(outcome: Outcome) -> float:
    """F1 where there is an answer, else −1: ``reward: "examples.components.reward:partial"``."""
    return outcome.f1 if outcome.prediction is not None else -1.0


@dataclass(frozen=True)
class Frugal:
    """``reward: {name: "examples.components.reward:Frugal", cost: 0.1}``."""

    cost: float = 0.1  # of a search

    def __call__(self, outcome: Outcome) -> float:
        """Exact match, less what was searched for it."""
        return outcome.em - self.cost * outcome.searches
