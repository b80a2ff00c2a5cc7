"""Majority votes and oracles over several answers to one question, within a budget of generated tokens.

Paths are counted in the order in which they were decided to be sampled, never in that of their ends: short ones would
come first. A path counts once it is whole. So every method sees, at a budget, what would be there if generation had
stopped when that many tokens were generated, path after path.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from at2po_env.scoring import normalise


@dataclass(frozen=True)
class Candidate:
    """A path to its end."""

    answer: str | None  # None: it ended without one
    em: float  # its exact match, over all gold answers
    logprob: float  # mean over the generated tokens from the root to its end, nats
    tokens: int  # generated for this path alone: turns that it shares with an earlier one cost nothing again


@dataclass(frozen=True)
class Sampled:
    """Everything that was sampled for one question."""

    chains: tuple[Candidate, ...]  # independent ones: those that the tree grew from, then more
    leaves: tuple[Candidate, ...]  # of the tree: its chains first, then its branches

    @property
    def budget(self) -> int:
        """Tokens that the tree took."""
        return sum(leaf.tokens for leaf in self.leaves)


def within(paths: Sequence[Candidate], budget: float) -> list[Candidate]:
    """The first paths that ``budget`` generated tokens pay for."""
    kept, spent = [], 0
    for path in paths:
        spent += path.tokens
        if spent > budget:
            break
        kept.append(path)
    return kept


def majority(paths: Sequence[Candidate]) -> Candidate | None:
    """A path with the answer that most paths give, compared as SQuAD and HotpotQA normalise answers.

    Of answers with equally many votes, the one whose paths have the highest mean log-probability per token; then the
    one that came first. Paths without an answer have no vote. None where nobody has one.
    """
    votes: dict[str, list[Candidate]] = defaultdict(list)
    for path in paths:
        if path.answer is not None:
            votes[normalise(path.answer)].append(path)
    if not votes:
        return None
    return max(votes.values(), key=lambda same: (len(same), fmean(path.logprob for path in same)))[0]


def voted(paths: Sequence[Candidate]) -> float:
    """Exact match of the answer that the majority gives; 0 where nobody has one."""
    chosen = majority(paths)
    return 0.0 if chosen is None else chosen.em


def best(paths: Sequence[Candidate]) -> float:
    """Exact match of the best path: what an oracle would choose."""
    return max((path.em for path in paths), default=0.0)


@dataclass(frozen=True)
class Method:
    """One way to answer with what was sampled."""

    em: Callable[[Sequence[Candidate]], float]
    of: Callable[[Sampled], Sequence[Candidate]]

    def paths(self, sampled: Sampled, budget: float | None = None) -> list[Candidate]:
        """The paths that it answers with.

        Args:
            sampled: for the question.
            budget: generated tokens, at most those of the tree; None: as many as the tree took.
        """
        return within(self.of(sampled), sampled.budget if budget is None else min(budget, sampled.budget))


METHODS: Mapping[str, Method] = {
    "one chain": Method(voted, lambda sampled: sampled.chains[:1]),
    "majority of chains": Method(voted, lambda sampled: sampled.chains),
    "majority of leaves": Method(voted, lambda sampled: sampled.leaves),
    "best chain (oracle)": Method(best, lambda sampled: sampled.chains),
    "best leaf (oracle)": Method(best, lambda sampled: sampled.leaves),
}
"""In the order in which they are shown. The oracles know the gold answers: no vote can be better."""


def exact_match_at(name: str, sampled: Sampled, budget: float | None = None) -> float:
    """Exact match of a method of METHODS on one question; 0 where the budget pays for no whole path."""
    method = METHODS[name]
    return method.em(method.paths(sampled, budget))


def budgets(questions: Sequence[Sampled], points: int = 25) -> list[int]:
    """Evenly spaced budgets from the cheapest first chain to the dearest tree, in tokens of one question."""
    low = min(sampled.chains[0].tokens for sampled in questions)
    high = max(sampled.budget for sampled in questions)
    steps = max(points - 1, 1)
    return sorted({round(low + (high - low) * step / steps) for step in range(points)})


def curve(questions: Sequence[Sampled], at: Sequence[int]) -> dict[str, list[float]]:
    """For every method its mean exact match at each budget; a question's tree needs no more than it took."""
    return {name: [fmean(exact_match_at(name, one, b) for one in questions) for b in at] for name in METHODS}
