"""Baselines of search questions: guessers that never search, and an oracle that asks the right queries."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Any

import numpy as np

from at2po_env.dialect import Dialect
from at2po_env.scoring import exact_match
from at2po_env.scripts import Baseline, Player, Script
from at2po_env.state import Action, EpisodeState, Question
from at2po_env.tasks import TaskEnv

_SPAN = re.compile(r"(?<!^)\b[A-Z0-9]\w*(?: [A-Z0-9]\w*)*")  # a name or a number after the question word
_COMMON = 5  # most common answers that are tried
_FIT = 10_000  # questions that the guessers learn from

Guesser = Callable[[Question], str]


def search_baselines(questions: Sequence[Question], fit: Sequence[Question], dialect: Dialect) -> tuple[Baseline, ...]:
    """Baselines without searching, and with perfect searches.

    Args:
        questions: that are played; the oracle needs the ``plan`` (queries) and ``passages`` (ids) of each in its
            metadata, and is left out where one has none.
        fit: questions from which a guesser learns, at most the first 10,000.
        dialect: in which the episodes are played.
    """
    fit = fit[:_FIT]
    guessers = {**_guessers(fit), "learned by question form": _by_form(fit)}
    players = {name: _guessing(guesser, dialect) for name, guesser in guessers.items()}
    found = [Baseline("no search", players, low=0.0, high=0.05)]
    if all(question.metadata.get("plan") for question in questions):
        how = "the right queries, answered if each found its passage"
        found.append(Baseline("oracle", {"oracle": _oracle(dialect)}, low=0.95, high=1.0, how=how))
    return tuple(found)


def _guessing(guesser: Guesser, dialect: Dialect) -> Player:
    def begin(env: TaskEnv[Any], rng: np.random.Generator) -> Script:
        return lambda: dialect.write(Action("answer", guesser(env.snapshot().question)))

    return begin


def _oracle(dialect: Dialect) -> Player:
    """Ask ``metadata["plan"]``, and give the answer if every query found its passage."""

    def begin(env: TaskEnv[Any], rng: np.random.Generator) -> Script:
        return _planned(env, dialect).__next__

    return begin


def _planned(env: TaskEnv[Any], dialect: Dialect) -> Iterator[str]:
    question: Question = env.snapshot().question
    found = True
    for query, passage in zip(question.metadata["plan"], question.metadata["passages"], strict=True):
        yield dialect.write(Action("search", query))
        state: EpisodeState = env.snapshot()
        assert state.turn is not None
        found = found and passage in [hit.passage.id for hit in state.turn.hits]
    yield dialect.write(Action("answer", question.answers[0] if found else "not found"))


def _guessers(fit: Sequence[Question]) -> dict[str, Guesser]:
    """Ways to guess: a fixed answer, one of the things that a comparison sets side by side, a name in the question."""
    common = [answer for answer, _ in Counter(question.answers[0] for question in fit).most_common(_COMMON)]
    fixed = dict.fromkeys(["yes", "no", *common])
    return {  # names first: of two that do equally well, the one that says more than a single answer
        **{f"name {place} in the question": _name_at(place) for place in (0, 1, -1)},
        **{f"always {answer!r}": _always(answer) for answer in fixed},
    }


def _always(answer: str) -> Guesser:
    return lambda question: answer


def _name_at(place: int) -> Guesser:
    def guess(question: Question) -> str:
        spans = _SPAN.findall(question.question)
        return str(spans[place]) if -len(spans) <= place < len(spans) else "yes"

    return guess


def _form(question: Question) -> str:
    """The form of a question: its first words before a name."""
    first, *others = re.findall(r"\w+", question.question)[:4] or [""]
    return " ".join([first.lower(), *takewhile(str.islower, others)])


def _by_form(fit: Sequence[Question]) -> Guesser:
    """For each form of question, the guesser or the most common answer that did best on the questions to learn from."""
    by_form: dict[str, list[Question]] = defaultdict(list)
    for question in fit:
        by_form[_form(question)].append(question)
    chosen: dict[str, Guesser] = {}
    for form, alike in by_form.items():
        options = _guessers(alike).values()
        chosen[form] = max(options, key=lambda g: sum(exact_match(g(q), q.answers) for q in alike))
    return lambda question: chosen.get(_form(question), _name_at(0))(question)
