"""The meaning of every metric, in one sentence each: for pages, the terminal and the documentation.

An environment's own metrics have the words that it gives them (``at2po_env.tasks.Metric``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Entry:
    """One metric."""

    words: str  # a plain sentence without its full stop
    unit: str = ""  # empty for a number without one

    def __str__(self) -> str:
        return f"{self.words} ({self.unit})" if self.unit else self.words


def _section(entries: Mapping[str, tuple[str, str]]) -> Mapping[str, Entry]:
    return MappingProxyType({name: Entry(words, unit) for name, (words, unit) in entries.items()})


TREE = _section(
    {
        "H": ("Entropy of a turn: the mean of −log p over its sampled tokens", "nats per token"),
        "V": (
            "Value of a turn, of normalised rewards and not of the rewards as printed: a leaf's is (reward − mean) / "
            "standard deviation over the tree's leaves, a turn's the weighted mean of its children's; 0 is the tree's "
            "average leaf",
            "standard deviations of the reward",
        ),
        "A": (
            "Advantage of a turn, with which each of its tokens is trained: above 0 it becomes likelier, below 0 rarer",
            "standard deviations of the reward",
        ),
    }
)
"""What a tree shows at each turn (``show-tree``, ``view``)."""

EPISODES = _section(
    {
        "em": ("Exact match: the answer equals a gold answer after normalisation", "share of episodes"),
        "f1": ("Overlap of the words of the answer and of the best gold answer", "0 to 1"),
        "contains": ("The answer contains a gold answer after normalisation", "share of episodes"),
        "success": ("The task was solved, as its environment decides", "share of episodes"),
        "reward": ("Reward of an episode", ""),
        "malformed": ("The episode ended with a reply that holds no usable action", "share of episodes"),
        "cut": ("A turn reached the token limit before it ended", "share of episodes"),
        "searches": ("Searches of an episode", "searches"),
        "turns": ("Turns of an episode", "turns"),
        "recall": ("Gold passages' titles that the searches of an episode brought", "share of titles"),
        "prompt_tokens": ("Tokens that the model read in an episode, each request counted in full", "tokens"),
        "completion_tokens": ("Tokens that the model wrote in an episode", "tokens"),
        "seconds": ("Time of an episode from its first request to its end", "seconds"),
        "cost": ("Price of an episode's tokens, in the currency of the prices that were given", "currency"),
        "pass@k": ("Chance that at least one of k samples of a question is correct, estimated without bias", "share"),
        "mean@k": ("Mean of a metric over k samples of a question, then over questions", "as the metric"),
        "errors": ("Episodes that infrastructure ended; they have no score and are in no mean", "episodes"),
        "questions": ("Questions with at least one scored episode", "questions"),
    }
)
"""Means of an evaluation (``summary.json``, ``view``, ``compare``), with ``eval_`` before them in ``metrics.jsonl``."""

ROLLOUT = _section(
    {
        "entropy": ("Mean entropy of the turns of the step's trees", "nats per token"),
        "leaves": ("Scored leaves of the trees that the step trains on", "leaves"),
        "trees": ("Trees that the step trains on", "trees"),
        "trees_with_signal": ("Trees among them in which some turn has an advantage other than 0", "trees"),
        "trees_dropped": ("Trees left out because fewer than two of their leaves were scored", "trees"),
        "leaves_dropped": ("Leaves of the trees that were left out", "leaves"),
        "questions_dropped": ("Questions whose episode could not begin", "questions"),
        "paths_lost": ("Paths given up because search or engine failed on every retry", "paths"),
        "groups_equal": ("Groups that dynamic sampling left out because all rewards were equal", "groups"),
        "groups_surplus": ("Groups that dynamic sampling grew beyond those it needed", "groups"),
        "unused_tokens": ("Tokens sampled for trees that the step does not train on", "tokens"),
        "unique_tokens": ("Tokens of the step's trees, sampled and read; those that paths share count once", "tokens"),
        "generated_tokens": ("Tokens that the policy sampled in the step, whatever became of them", "tokens"),
        "calls": ("Turns that the environment answered: searches and tool calls", "calls"),
    }
)
"""Rollouts of a training step; the environment's metrics are beside them as means over leaves."""

ENGINE = _section(
    {
        "prefilled_tokens": ("Prompt tokens that the engine computed", "tokens"),
        "cached_share": ("Prompt tokens that servers took from their cache, of those that could be shared", "share"),
        "staleness": ("Updates between the weights that sampled the step's trees and those that it updates", "updates"),
        "straddling_turns": ("Turns that were being sampled while the weights changed", "turns"),
    }
)
"""The engine in a training step."""

UPDATE = _section(
    {
        "loss": ("Loss of the objective, mean over optimiser steps", ""),
        "grad_norm": ("Norm of the gradient before it is clipped", ""),
        "lr": ("Learning rate, mean over optimiser steps", ""),
        "entropy": ("Entropy of the policy's token distributions over the rows that were forwarded", "nats per token"),
        "steps": ("Optimiser steps that changed the weights", "steps"),
        "skipped_steps": ("Optimiser steps left out because their gradient was not finite", "steps"),
        "tokens_forwarded": ("Tokens in the packed forward passes, without padding", "tokens"),
        "trees_without_signal": ("Trees whose advantages are all 0, in all epochs", "trees"),
        "clip_fraction": ("Tokens whose loss the clip range decided", "share of tokens"),
        "dual_clip_fraction": ("Tokens with a negative advantage whose loss the dual clip capped", "share of tokens"),
        "ppo_kl": ("Mean of logp_old − logp, an estimate of the KL to the policy that sampled", "nats per token"),
        "kl_ref": ("Estimate of the KL to the reference policy, the one at the start", "nats per token"),
        "turn_kl_entropy": (
            "How evenly a trajectory's change of probability is spread over its turns: the entropy of their shares",
            "nats",
        ),
        "ratio_min": ("Least ratio of new to old probability, of the turn, token or trajectory that is clipped", ""),
        "ratio_max": ("Greatest ratio of new to old probability, likewise", ""),
    }
)
"""The update of a training step, with ``update_`` before them in ``metrics.jsonl``."""

TIME = _section(
    {
        "step": ("Time of a training step: rollout, credit and update", "seconds"),
        "rollout": (
            "Time of the step in which trees were grown, with train.staleness=1 those of the next one",
            "seconds",
        ),
        "update": ("Time of credit and update: of the step, what was not waiting for trees", "seconds"),
        "overlap": ("Time of the step in which trees were grown while it did something else", "seconds"),
        "cpu": ("Time of all processors and processes of the trainer in the step", "processor seconds"),
        "eval": ("Time of an evaluation", "seconds"),
        "tokens_per_second": ("Tokens sampled in the step per second of the whole step", "tokens per second"),
    }
)
"""Timings, under ``time`` in a line of ``metrics.jsonl``."""

COSTS = _section(
    {
        "tokens": ("Tokens that the policy sampled in training", "tokens"),
        "calls": ("Turns that the environment answered in training: searches and tool calls", "calls"),
        "seconds": ("Time of training; evaluation and loading are not in it", "seconds"),
        "cpu_seconds": ("Time of all processors in training", "processor seconds"),
    }
)
"""The budgets of a study, which its curves and areas are drawn against."""

SECTIONS: Mapping[str, Mapping[str, Entry]] = MappingProxyType(
    {
        "Trees": TREE,
        "Episodes and evaluations": EPISODES,
        "Rollouts of a training step": ROLLOUT,
        "Engine": ENGINE,
        "Update": UPDATE,
        "Time": TIME,
        "Costs of a study": COSTS,
    }
)


def logged(name: str) -> Entry | None:
    """The entry of a key of ``metrics.jsonl``; None where it is an environment's own metric, or unknown."""
    for prefix, section in (("update_", UPDATE), ("eval_", EPISODES)):
        if name.startswith(prefix):
            return section.get(name.removeprefix(prefix))
    return ROLLOUT.get(name) or ENGINE.get(name) or EPISODES.get(name)
