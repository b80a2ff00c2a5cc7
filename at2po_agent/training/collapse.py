"""Watch a run for the ways in which training collapses, and say in one line what to look at when one begins.

Users report collapse at steps 160 to 600 of such runs, hours after it could be seen in the metrics. Every symptom is a
function of the steps so far, so a run that goes on watches as one that never stopped. To add a symptom: write its
function and add it to ``SYMPTOMS``.

=====================  ======================================  ====================================================
symptom                threshold                               why there
=====================  ======================================  ====================================================
entropy near 0         below 0.01 nats a token, mean of 5      the sampled token has a probability of 0.99 on
                       steps                                   average: the paths of a question are all the same
entropy exploding      above 1 nat and 3 times that of the     the quick start samples at 0.2 to 0.35 nats from its
                       first 5 steps, mean of 5 steps          first step to its last
groups without signal  3 steps and 64 groups in a row          where 1 group in 10 has a signal, 64 in a row have
                                                               none once in 850 times
clip fraction          above 0.8, mean of 3 steps              GSPO, which clips the most, reports about 0.15
ratios                 an extreme beyond 100 or 1/100, in      clip ranges are within 1/2 to 2, and no update of a
                       each of 3 steps                         healthy size changes a probability a hundredfold
malformed              25 points above the lowest mean of 10   with 100 paths or more, chance moves a share by 5
                       steps, mean of 10 steps
skipped updates        any                                     their gradient is not finite
=====================  ======================================  ====================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from statistics import fmean

Metrics = Mapping[str, float]  # of a step, those that are finite numbers
Symptom = Callable[[Sequence[Metrics]], str | None]

# Steps without a symptom after which it counts as new: one that comes and goes is not printed each time.
QUIET = 20


def entropy_near_zero(steps: Sequence[Metrics]) -> str | None:
    """Paths of one question that are all the same."""
    entropy = _mean_of_last(steps, "entropy", 5)
    if entropy is None or entropy >= 0.01:
        return None
    return (
        f"the entropy is near 0 ({entropy:.2g} nats a token), so the paths of a question are all alike: look at "
        "update.lr, rollout.temperature, and whether one fixed reply earns the reward"
    )


def entropy_exploding(steps: Sequence[Metrics]) -> str | None:
    """Sampling that approaches noise."""
    entropy, first = _mean_of_last(steps, "entropy", 5), _mean_of_last(steps[:5], "entropy", 5)
    if entropy is None or first is None or entropy <= max(1.0, 3 * first):
        return None
    return (
        f"the entropy explodes ({entropy:.2f} nats a token, {first:.2f} in the first steps), so the policy writes "
        "noise: look at update.lr, at the replies (show-tree), and for a KL term at algorithm.objective"
    )


def no_signal(steps: Sequence[Metrics]) -> str | None:
    """Groups whose rewards are all equal, which no update learns from."""
    recent = list(takewhile(lambda step: not step.get("trees_with_signal", 0), reversed(steps)))
    groups = sum(int(step.get("trees", 0) + step.get("groups_equal", 0)) for step in recent)
    if len(recent) < 3 or groups < 64:
        return None
    reward = next((step["reward"] for step in recent if "reward" in step), None)
    known = "" if reward is None else f" (the mean reward is {reward:.2f})"
    return (
        f"all of the last {groups} groups have equal rewards{known}, so there is nothing to learn from: look at "
        "whether the questions are too hard or too easy, and at the replies (show-tree)"
    )


def clipped(steps: Sequence[Metrics]) -> str | None:
    """Updates of which clipping leaves nearly nothing."""
    fraction = _mean_of_last(steps, "update_clip_fraction", 3)
    if fraction is None or fraction <= 0.8:
        return None
    return (
        f"{fraction:.0%} of the tokens are clipped, so hardly any token is learned from: look at update.lr, "
        "update.epochs, update.mini_batch and the clip range in algorithm.objective"
    )


def ratio_extremes(steps: Sequence[Metrics]) -> str | None:
    """Probabilities far from those that were sampled with."""
    extremes = [(step.get("update_ratio_min", 1.0), step.get("update_ratio_max", 1.0)) for step in steps[-3:]]
    if len(extremes) < 3 or not all(low < 0.01 or high > 100 for low, high in extremes):
        return None
    return (
        f"the ratio of new to old probabilities has extremes ({extremes[-1][0]:.2g} and {extremes[-1][1]:.2g}): look "
        "at update.lr and update.epochs, and whether engine and update agree (update.old_logprobs=recompute)"
    )


def malformed_rising(steps: Sequence[Metrics]) -> str | None:
    """Replies that lose their form."""
    # The first window, and those side by side backwards from this step: all that overlap would take a long run long.
    ends = [*range(len(steps), 9, -10), 10] if len(steps) >= 10 else []
    shares = [_malformed_share(steps[end - 10 : end]) for end in ends]
    now, known = shares[0] if shares else None, [share for share in shares if share is not None]
    if now is None or now < min(known) + 0.25:
        return None
    return (
        f"malformed replies rise ({now:.0%} of the paths, {min(known):.0%} before): look at the replies "
        "(show-tree), rollout.max_turn_tokens, update.lr, and whether the reward has no part for form"
    )


def skipped_updates(steps: Sequence[Metrics]) -> str | None:
    """Updates that were left out."""
    skipped, taken = (int(steps[-1].get(f"update_{name}", 0)) for name in ("skipped_steps", "steps"))
    if not skipped:
        return None
    how_many = f"{skipped} of {skipped + taken} updates of the step were" if taken else "every update was"
    return f"{how_many} skipped, because the gradient is not finite: look at the size of the rewards and update.lr"


SYMPTOMS: Mapping[str, Symptom] = {
    "entropy near 0": entropy_near_zero,
    "entropy exploding": entropy_exploding,
    "groups without signal": no_signal,
    "clip fraction": clipped,
    "ratios": ratio_extremes,
    "malformed": malformed_rising,
    "skipped updates": skipped_updates,
}


class CollapseWatch:
    """Every step of a run so far, and the symptoms that it showed."""

    def __init__(self) -> None:
        self._steps: list[Metrics] = []
        self._shown: dict[str, int] = {}  # symptom → steps when it last showed

    def see(self, metrics: Mapping[str, float | None]) -> list[str]:
        """Look at one more step.

        Args:
            metrics: of the step (see ``rollout_metrics``), those of ``Updater.update`` with ``update_`` before them.

        Returns:
            A sentence for each symptom that begins with this step, with what to look at.
        """
        # Null where metrics.jsonl was read and NaN where it was not: the same to every symptom.
        known = {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}
        self._steps.append(known)
        begun, now = [], len(self._steps)
        for name, symptom in SYMPTOMS.items():
            sentence = symptom(self._steps)
            if sentence is None:
                continue
            if name not in self._shown or now - self._shown[name] > QUIET:
                begun.append(sentence)
            self._shown[name] = now
        return begun


def _mean_of_last(steps: Sequence[Metrics], name: str, n: int) -> float | None:
    """Mean of a metric over the last ``n`` steps, None where one of them has none."""
    values = [step[name] for step in steps[-n:] if name in step]
    return fmean(values) if len(values) == n else None


def _malformed_share(steps: Sequence[Metrics]) -> float | None:
    """Malformed paths of all paths of the steps; None where these are fewer than 100."""
    scored = [step for step in steps if "malformed" in step]
    paths = sum(step["leaves"] for step in scored)
    malformed = sum(step["malformed"] * step["leaves"] for step in scored)
    return malformed / paths if paths >= 100 else None
