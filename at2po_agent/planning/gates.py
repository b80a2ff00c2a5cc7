"""Is a task fit for learning to search? What can be answered without searching, with perfect searches, and by a policy.

Three gates, played through the environment and its search like any episode: the strongest guesser that never searches
must stay low, a scripted oracle that asks the right queries must come out high, and a starting policy must lie between.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from rich.table import Table

from at2po_agent.environments import make_search_env
from at2po_agent.settings import ConfigError
from at2po_env.scoring import exact_match
from at2po_env.search_qa import SearchQAEnv, group_of
from at2po_env.state import Action, Question

NO_SEARCH = (0.0, 0.05)
ORACLE = (0.95, 1.0)
POLICY = (0.10, 0.40)

_SPAN = re.compile(r"(?<!^)\b[A-Z0-9]\w*(?: [A-Z0-9]\w*)*")  # a name or a number after the question word
_COMMON = 5  # most common answers that are tried
_FIT = 10_000  # questions that the guesser learns from

Guesser = Callable[[Question], str]
PolicyEM = Callable[[Sequence[str]], Mapping[str, float]]
"""Runs a policy on questions, given by id, and returns the exact match of those that it scored."""


@dataclass(frozen=True)
class Gate:
    """Exact match of one way to answer: overall, by group of questions, and the range it should lie in."""

    name: str
    em: float
    groups: Mapping[str, float]
    low: float
    high: float
    how: str  # what was played

    @property
    def passed(self) -> bool:
        """Whether the exact match lies in the range."""
        return self.low <= self.em <= self.high


@dataclass(frozen=True)
class GateReport:
    """The gates of one environment, and how many questions of each group they were measured on."""

    env_id: str
    split: str
    counts: Mapping[str, int]
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate that was measured is passed."""
        return all(gate.passed for gate in self.gates)

    def to_table(self) -> Table:
        """One row per gate, one column per group, exact match in percent."""
        total = sum(self.counts.values())
        table = Table(title=f"{self.env_id}, {self.split}: exact match in % on {total} questions")
        table.add_column("gate")
        table.add_column("all", justify="right")
        for group, count in self.counts.items():
            table.add_column(f"{group}\n({count})", justify="right", no_wrap=True)
        table.add_column("wanted", justify="right")
        table.add_column("passed")
        for gate in self.gates:
            shares = [f"{100 * gate.groups[group]:.1f}" if group in gate.groups else "–" for group in self.counts]
            wanted = f"{100 * gate.low:.0f}–{100 * gate.high:.0f}"
            verdict = "yes" if gate.passed else "NO"
            table.add_row(gate.name, f"{100 * gate.em:.1f}", *shares, wanted, verdict)
        table.caption = "\n".join(f"{gate.name}: {gate.how}" for gate in self.gates)
        table.caption_justify = "left"
        return table


def gates(
    env_id: str,
    *,
    split: str = "test",
    fit_split: str = "train",
    questions: int = 500,
    policy_em: PolicyEM | None = None,
    **kwargs: Any,
) -> GateReport:
    """Measure the gates of a registered environment.

    Args:
        env_id: a Gymnasium id whose environment is a ``SearchQAEnv`` and takes ``split``.
        split: the questions that are scored.
        fit_split: the questions that the guesser learns from, at most 10,000.
        questions: how many of ``split`` are used, from its start.
        policy_em: plays a policy; without it there is no third gate.
        kwargs: passed to ``gymnasium.make``.

    Raises:
        TypeError: the environment is not a ``SearchQAEnv``.
        ValueError: no question is asked for.
    """
    if questions < 1:
        raise ConfigError(f"gates need at least one question, got questions={questions}")
    with closing(make_search_env(env_id, fit_split, kwargs)) as fitted:
        fit = fitted.questions[:_FIT]
    with closing(make_search_env(env_id, split, kwargs)) as env:
        asked = env.questions[:questions]
        measured = [_no_search(env, asked, fit)]
        if all(question.metadata.get("plan") for question in asked):
            em = {question.id: oracle(env, question) for question in asked}
            measured.append(_gate("oracle", em, asked, ORACLE, "the right queries, answered if each found its passage"))
    if policy_em is not None:
        scored = policy_em([question.id for question in asked])
        measured.append(_gate("policy", scored, asked, POLICY, f"{len(scored)} questions scored"))
    counts = Counter(map(group_of, asked))
    return GateReport(env_id, split, dict(sorted(counts.items())), tuple(measured))


def oracle(env: SearchQAEnv, question: Question) -> float:
    """Ask ``metadata["plan"]``, and give the answer if every query found its passage. Returns the exact match."""
    env.reset(options={"question_id": question.id})
    found = True
    for query, passage in zip(question.metadata["plan"], question.metadata["passages"], strict=True):
        _, _, terminated, truncated, info = env.step(env.dialect.write(Action("search", query)))
        if terminated or truncated:
            return 0.0
        found = found and passage in [hit["id"] for hit in info["hits"]]
    return _answer(env, question.answers[0] if found else "not found")


def _answer(env: SearchQAEnv, answer: str) -> float:
    return float(env.step(env.dialect.write(Action("answer", answer)))[4]["em"])


def _gate(name: str, em: Mapping[str, float], asked: Sequence[Question], wanted: tuple[float, float], how: str) -> Gate:
    by_group: dict[str, list[float]] = defaultdict(list)
    for question in asked:
        if question.id in em:
            by_group[group_of(question)].append(em[question.id])
    mean = sum(em.values()) / len(em) if em else 0.0
    return Gate(name, mean, {group: sum(all_) / len(all_) for group, all_ in by_group.items()}, *wanted, how)


def _no_search(env: SearchQAEnv, asked: Sequence[Question], fit: Sequence[Question]) -> Gate:
    """The best of all guessers in hindsight, so that the gate is never passed by a weak guess."""
    guessers = {**_guessers(fit), "learned by question form": _by_form(fit)}
    played = {name: {q.id: _guess(env, q, guesser) for q in asked} for name, guesser in guessers.items()}
    best = max(played, key=lambda name: sum(played[name].values()))
    return _gate("no search", played[best], asked, NO_SEARCH, f"best of {len(guessers)} guessers: {best}")


def _guess(env: SearchQAEnv, question: Question, guesser: Guesser) -> float:
    env.reset(options={"question_id": question.id})
    return _answer(env, guesser(question))


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
    """What kind of question this is, as its first words before a name tell."""
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
