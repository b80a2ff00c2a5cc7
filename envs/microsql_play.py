"""Scripted play of MicroSQL: a teacher with faults, an oracle, and the ways to play that must not succeed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from at2po_env.tasks import Baseline, Player, Script, Teacher
from at2po_env.tool_dialects import ToolAction

from .microsql_database import COLUMNS, TABLES, USUAL, Schema
from .microwiki_text import RELATIONS

LOOK = "select sql from sqlite_master"

Turns = Callable[[Any, np.random.Generator], Iterator[str]]
"""The turns of an episode of the environment, each asked for when the one before was taken."""


@dataclass(frozen=True)
class SQLTeacher(Teacher):
    """Looks at the schema, follows the question with one statement per hop, and answers with what it read last.

    The fields are what it does wrong, as probabilities. It does not notice its faults: it takes what it reads for what
    it asked for, and where a statement finds nothing it answers with what it has.

    Raises:
        ValueError: a probability is not from 0 to 1, or there is no such relation.
    """

    wrong_relations: tuple[str, ...] = ()  # those whose column was learned wrongly
    wrong_column: float = 0.0  # of asking for one of them with the wrong column of its table, always the same one
    random_column: float = 0.0  # of any statement with another column of its table
    stop_early: float = 0.0  # of answering with what was read so far, before each later statement

    def __post_init__(self) -> None:
        self.check_shares("wrong_column", "random_column", "stop_early")
        known = {told for columns in COLUMNS.values() for told in columns}
        if unknown := sorted(set(self.wrong_relations) - known):
            raise ValueError(f"wrong_relations has {unknown[0]!r}: there are {', '.join(sorted(known))}")

    def __call__(self, env: Any, rng: np.random.Generator) -> Script:
        """Begin to play the episode that a ``MicroSQL`` was reset to."""
        return _script(self._turns)(env, rng)

    def record(self, env: Any) -> dict[str, Any]:
        """For every relation learned wrongly: how often, and what is asked for in its place."""
        return {
            "taught_wrongly": {
                relation: {"share": self.wrong_column, "right": relation, "taught": _beside(relation)[0]}
                for relation in sorted(self.wrong_relations)
            }
        }

    def _turns(self, env: Any, rng: np.random.Generator) -> Iterator[str]:
        schema, (thing, relations) = env.schema(env.info()["task_id"]), env.plan(env.info()["task_id"])
        yield _sql(env, LOOK)
        for step, relation in enumerate(relations):
            if step and rng.random() < self.stop_early:
                break
            yield _sql(env, statement(schema, relation, thing, self._told(relation, rng)))
            thing = _value(env) or thing
        yield _answer(env, thing)

    def _told(self, relation: str, rng: np.random.Generator) -> str:
        """The wrong relation that is asked for where ``relation`` should be."""
        if relation in self.wrong_relations and rng.random() < self.wrong_column:
            return _beside(relation)[0]
        return str(rng.choice(_beside(relation))) if rng.random() < self.random_column else relation


def _beside(relation: str) -> list[str]:
    """Other relations of the things that ``relation`` starts from, later ones first."""
    told = list(COLUMNS[RELATIONS[relation].subject])
    place = told.index(relation)
    return told[place + 1 :] + told[:place]


def statement(schema: Schema, relation: str, thing: str, told: str | None = None, nested: str = "") -> str:
    """The query for what a relation leads to from a thing.

    Args:
        schema: the names of tables and columns.
        relation: its subject says which table.
        thing: a name.
        told: the relation or fact that is asked for in place of ``relation``; ``"*"`` for all of them.
        nested: a query for the thing, in place of its name.
    """
    kind = RELATIONS[relation].subject
    column = told or relation
    which = f"( {nested} )" if nested else f"'{thing}'"
    return f"select {column} from {TABLES[kind]} where {schema.key} = {which}"


def baselines(fit: Any) -> tuple[Baseline, ...]:
    """Baselines: one statement alone, players without skill, and an oracle.

    Args:
        fit: a ``MicroSQL`` from whose answers the constant policy takes the most common one.
    """
    common = Counter(answer for task_id in fit.tasks for answer in fit.task(task_id).answers[:1]).most_common(1)[0][0]
    one = {"by the usual names": _script(_one_statement), "every column, the right one read": _script(_every_column)}
    unskilled = {"random turns": _script(_random), f"always {common!r}": _script(_constant(common))}
    return (
        Baseline("one statement", one, 0.0, 0.1),
        Baseline("no skill", unskilled, 0.0, 0.1),
        Baseline("oracle", {"schema, a statement per hop": SQLTeacher()}, 0.95, 1.0),
    )


def _one_statement(env: Any, rng: np.random.Generator) -> Iterator[str]:
    yield _sql(env, _blind(env))
    yield _answer(env, _value(env) or "unknown")


def _every_column(env: Any, rng: np.random.Generator) -> Iterator[str]:
    """Reads a whole row, and always knows which of its values is the answer: no policy does better blindly."""
    gold = env.task(env.info()["task_id"]).answers[0]
    yield _sql(env, _blind(env, "*"))
    yield _answer(env, gold if f"'{gold}'" in _seen(env) else "unknown")


def _blind(env: Any, told: str | None = None) -> str:
    """One statement for the whole question, by the usual names."""
    thing, relations = env.plan(env.info()["task_id"])
    query = ""
    for step, relation in enumerate(relations, start=1):
        query = statement(USUAL, relation, thing, told if step == len(relations) else None, nested=query)
    return query


def _random(env: Any, rng: np.random.Generator) -> Iterator[str]:
    """Turns that are well formed and name things that there are, without regard to the question."""
    schema, (thing, _) = env.schema(env.info()["task_id"]), env.plan(env.info()["task_id"])
    asked = [told for columns in COLUMNS.values() for told in columns if told in RELATIONS]
    while rng.random() < 0.75:
        yield _sql(env, statement(schema, str(rng.choice(asked)), thing))
        thing = _value(env) or thing
    yield _answer(env, thing)


def _constant(answer: str) -> Turns:
    return lambda env, rng: iter([_answer(env, answer)])


def _script(turns: Turns) -> Player:
    """A player that takes turns which a generator yields; past the last one it repeats a statement to the end."""

    def begin(env: Any, rng: np.random.Generator) -> Script:
        following = turns(env, rng)
        return lambda: next(following, _sql(env, LOOK))

    return begin


def _sql(env: Any, query: str) -> str:
    return str(env.rules.dialect.write(ToolAction("call", "sql", {"query": query}), env.tools))


def _answer(env: Any, answer: str) -> str:
    return str(env.rules.dialect.write(ToolAction("answer", content=answer), env.tools))


def _seen(env: Any) -> str:
    """The last result."""
    return "".join(segment.text for segment in env.observation() if segment.data).strip()


def _value(env: Any) -> str:
    """The first value of the last result; nothing where it has none."""
    first = _seen(env).partition("\n")[0].partition(" , ")[0]
    return "" if first == "no rows" or first.startswith("error: ") else first.strip("'")
