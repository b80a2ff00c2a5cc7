"""Scores of an answer, and what an episode is rewarded with.

Normalisation, exact match and F1 are those of the official HotpotQA evaluation script (hotpot_evaluate_v1.py,
https://github.com/hotpotqa/hotpot), which took the first two from SQuAD. The best score over the gold answers counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from at2po_env.state import EndReason, Question
from search_backend.components import Kind

METRICS = "hotpotqa-squad/1"
"""Names these scores in a manifest; it changes whenever the same answer would be scored differently."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CLOSED_ANSWERS = frozenset({"yes", "no", "noanswer"})


@lru_cache(maxsize=1024)  # gold answers are compared with many predictions, and each of those for reward and info
def normalise(answer: str) -> str:
    """Lower case, without ASCII punctuation and articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if the prediction equals a gold answer after normalisation, else 0.0.

    Raises:
        ValueError: there is no gold answer.
    """
    return _best(prediction, answers, _exact)[0]


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Harmonic mean of token precision and recall, in [0, 1].

    As in the official script, ``yes``, ``no`` and ``noanswer`` earn nothing from an answer that is not equal to them.

    Raises:
        ValueError: there is no gold answer.
    """
    return _best(prediction, answers, _f1)[0]


def contains(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if a gold answer is a substring of the prediction, both normalised (cover match, "sub-EM"), else 0.0.

    Raises:
        ValueError: there is no gold answer.
    """
    return _best(prediction, answers, _cover)[0]


def _best(prediction: str, answers: Sequence[str], *scores: Callable[[str, str], float]) -> list[float]:
    """The best of each score over the answers; every text is normalised once."""
    if isinstance(answers, str):
        raise TypeError("answers is a sequence of gold answers, not one string")
    if not answers:
        raise ValueError("no gold answer to score against")
    predicted = normalise(prediction)
    golds = [normalise(answer) for answer in answers]
    return [max(score(predicted, gold) for gold in golds) for score in scores]


def _exact(predicted: str, gold: str) -> float:
    return float(predicted == gold)


def _cover(predicted: str, gold: str) -> float:
    # An answer such as "The" normalises to nothing, and nothing is a substring of everything.
    return float(gold in predicted if gold else gold == predicted)


@lru_cache(maxsize=1024)  # for reward and info, and siblings often give the same answer
def _f1(predicted: str, gold: str) -> float:
    if predicted == gold:
        return float(bool(gold))  # as officially: two texts without a token share none
    if predicted in _CLOSED_ANSWERS or gold in _CLOSED_ANSWERS:
        return 0.0
    predicted_tokens, gold_tokens = predicted.split(), gold.split()
    same = sum((Counter(predicted_tokens) & Counter(gold_tokens)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted_tokens), same / len(gold_tokens)
    return 2 * precision * recall / (precision + recall)


@dataclass(frozen=True)
class Outcome:
    """The outcome of an episode: all that a reward may look at. Scores are 0 where there is no answer."""

    question: Question
    ended: EndReason
    prediction: str | None
    em: float
    f1: float
    contains: float
    searches: int
    turns: int


class Reward(Protocol):
    """The reward of an episode: a function, or a dataclass of settings with this method."""

    def __call__(self, outcome: Outcome, /) -> float:
        """The reward, a finite number."""
        ...


def judge(question: Question, ended: EndReason, prediction: str | None, searches: int, turns: int) -> Outcome:
    """Score the end of an episode; ``prediction`` is None where it has no answer."""
    if prediction is None:
        return Outcome(question, ended, None, 0.0, 0.0, 0.0, searches, turns)
    em, best_f1, cover = _best(prediction, question.answers, _exact, _f1, _cover)
    return Outcome(question, ended, prediction, em, best_f1, cover, searches, turns)


def em_reward(outcome: Outcome) -> float:
    """Exact match; 0 without an answer."""
    return outcome.em


def f1_reward(outcome: Outcome) -> float:
    """F1; 0 without an answer."""
    return outcome.f1


def em_or_format_reward(outcome: Outcome) -> float:
    """Exact match, and −1 for an episode that ended without an answer: malformed, or at a limit."""
    return outcome.em if outcome.ended == "answer" else -1.0


REWARDS: dict[str, Reward] = {"em": em_reward, "f1": f1_reward, "em_or_format": em_or_format_reward}
REWARD = Kind("reward", Reward, REWARDS)
