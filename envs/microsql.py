"""MicroSQL: a database agent's task. Questions of one or two hops, answered with SQL over a schema nobody has seen.

The things are MicroWiki's. Each database calls the column that holds the names of things something else, so the model
has to look at the schema (``sqlite_master``) before it can ask: one statement alone seldom hits the right name. A
result shows at most five rows. It needs no download, and train, dev and test ask about different things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from at2po_env.scoring import exact_match
from at2po_env.state import Question
from at2po_env.tasks import Baseline, Order
from at2po_env.tool_env import ToolEnv
from at2po_env.tool_rules import Finished, ToolRules, ToolTask

from .microsql_database import COLUMNS, Database, Schema
from .microsql_play import SQLTeacher, baselines
from .microwiki import MicroWiki, WorldConfig, generate, world_config
from .microwiki_text import RELATIONS
from .microwiki_world import Dice

SCHEMAS: Mapping[str, int] = {"train": 24, "dev": 24, "test": 24}
"""How many databases there are of each split, and so the splits."""

WORLD: Mapping[str, Any] = {"hops": (0.5, 0.5), "comparison": 0.0}
"""Laid over a preset. Questions about rivers and mountains, and comparisons, are left out of any world."""

_TOLD = frozenset(told for columns in COLUMNS.values() for told in columns)


def answered(end: Finished) -> float:
    """1 where the answer is the gold answer, normalised as in exact match."""
    return exact_match(end.answer or "", end.task.answers)


@dataclass(frozen=True)
class Databases:
    """The databases of one split of a world, by name: ``test-3``."""

    by_name: Mapping[str, Database]

    @classmethod
    def of(cls, config: WorldConfig, split: str) -> Databases:
        """Those of a split of a world."""
        world = generate(config)
        schemas = {f"{split}-{n}": Schema.drawn(Dice(config.seed, "schema", split, n)) for n in range(SCHEMAS[split])}
        return cls({name: Database(world, split, schema) for name, schema in schemas.items()})

    def sql(self, query: str, state: dict[str, Any]) -> str:
        """Run one SQLite query, which can only read, and see at most 5 rows; sqlite_master tells the tables."""
        return self.by_name[state["database"]].query(query)


class MicroSQL(ToolEnv):
    """Questions about databases that have to be looked at first.

    Args:
        questions: of MicroWiki, each with ``relations`` in its metadata; one database after another is asked.
        databases: what is asked.
        rules: see ``ToolEnv``.
        **options: of ``ToolEnv``.
    """

    teacher = SQLTeacher
    task_word = "question"

    def __init__(self, questions: Sequence[Question], databases: Databases, rules: ToolRules, **options: Any) -> None:
        self._databases = databases
        self._questions = {question.id: question for question in questions}
        names = list(databases.by_name)
        tasks = [_task(question, names[number % len(names)]) for number, question in enumerate(questions)]
        super().__init__([databases.sql], tasks, answered, rules, **options)

    def schema(self, task_id: str) -> Schema:
        """The names in the database that a question is asked about."""
        return self._databases.by_name[self._task(task_id).state["database"]].schema

    def plan(self, task_id: str) -> tuple[str, Sequence[str]]:
        """The thing that a question starts from, and the relations that lead from it to the answer."""
        question = self._questions[task_id]
        return question.supporting_titles[0], question.metadata["relations"]

    def baselines(self, fit: Self) -> tuple[Baseline, ...]:
        """One statement alone, ways to play without skill, and an oracle."""
        return baselines(fit)


def _task(question: Question, database: str) -> ToolTask:
    relations = [RELATIONS[name] for name in question.metadata["relations"]]
    text = f"'{question.supporting_titles[0]}'"
    for relation in relations:
        text = f"{relation.phrase} {text}"
    hops = f"{len(relations)} hop{'s' if len(relations) > 1 else ''}"
    state = {"database": database}
    return ToolTask(question.id, f"{relations[-1].ask} {text}?", hops, question.answers, state=state)


@lru_cache(maxsize=12)
def _questions(config: WorldConfig, split: str) -> tuple[Question, ...]:
    """Those of MicroWiki that the tables can answer."""
    asked = MicroWiki().load(split, world=config).questions
    return tuple(q for q in asked if q.metadata["type"] != "comparison" and _TOLD.issuperset(q.metadata["relations"]))


def make(
    split: str = "train",
    *,
    world: str | Mapping[str, Any] = "small",
    order: Order = "random",
    copies: int = 1,
    render_mode: str | None = None,
    **rules: Any,
) -> MicroSQL:
    """Make the environment; ``gymnasium.make`` calls this.

    Args:
        split: ``train``, ``dev`` or ``test``.
        world: of MicroWiki: a preset, or fields over one, which ``WORLD`` completes.
        order: see ``TaskEnv``.
        copies: see ``TaskEnv``.
        render_mode: see ``TaskEnv``.
        **rules: of ``ToolRules.of``.

    Raises:
        TypeError: there is no such argument.
        ValueError: an argument has a wrong value; the message names it.
    """
    if split not in SCHEMAS:
        raise ValueError(f"MicroSQL: no split is named {split!r}; there are {', '.join(SCHEMAS)}")
    told = {"preset": world} if isinstance(world, str) else dict(world)
    config = world_config({**WORLD, **told})
    return MicroSQL(
        _questions(config, split),
        Databases.of(config, split),
        ToolRules.of(**{"max_turns": 6, "max_result_chars": 1000, **rules}),
        name="microsql",
        split=split,
        order=order,
        copies=copies,
        render_mode=render_mode,
    )
