"""The databases of MicroSQL: MicroWiki's world as tables, each time under other names, and queries that only read.

A query comes from a model, so it is hostile until it has run: an authorizer lets it read and nothing else, SQLite's
run-time limits bound its text and values, and a progress handler ends it after so many instructions of SQLite's virtual
machine. That count, unlike a clock, is the same on every machine: an episode can be played again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from threading import Lock
from typing import Any

from .microwiki_world import Dice, World

MAX_ROWS = 5
"""Rows that a result shows."""
MAX_CELL = 160
"""Characters of a value that a result shows: a table's statement fits."""
MAX_STEPS = 400_000
"""Instructions of SQLite's virtual machine that a query may take: a scan of the largest table takes 30,000."""

_CHUNK = 1_000
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 4_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 2_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 10,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 10_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 50,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_READS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
# fmt: off
_FUNCTIONS = frozenset(
    {
        "abs", "avg", "coalesce", "count", "glob", "group_concat", "ifnull", "iif", "instr", "length", "like",
        "lower", "ltrim", "max", "min", "nullif", "quote", "replace", "round", "rtrim", "substr", "substring",
        "sum", "total", "trim", "typeof", "unicode", "upper",
    }
)
# fmt: on
"""Those whose value is a function of their arguments: no clock, no chance, no files."""

TABLES: Mapping[str, str] = {"person": "people", "town": "towns", "company": "companies", "book": "books"}
"""The kinds of things that have a table, and its name."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "person": ("birthplace", "teacher", "employer"),
    "town": ("mayor", "count"),
    "company": ("founder", "seat"),
    "book": ("author", "publisher", "setting"),
}
"""The columns of each table beside that of names: what is told of its things, a relation or a fact."""

# fmt: off
KEYS = (
    "name", "title", "label", "term", "alias", "ident", "tag", "word", "handle", "item",
    "entry", "head", "sign", "call", "mark", "form", "text", "note", "code", "key",
)
# fmt: on
"""What the column of names may be called."""


@dataclass(frozen=True)
class Schema:
    """The name of the column of names in each table of one database."""

    key: str

    @classmethod
    def drawn(cls, dice: Dice) -> Schema:
        """A name at random."""
        return cls(dice.pick(KEYS))

    def statement(self, kind: str) -> str:
        """The ``CREATE TABLE`` statement; ``sqlite_master`` shows it as it is written here."""
        return f"CREATE TABLE {TABLES[kind]} ( {' , '.join((self.key, *COLUMNS[kind]))} )"


USUAL = Schema(KEYS[0])
"""What one would call things who has not looked."""


@dataclass(frozen=True)
class Database:
    """The things of one split of a world under the names of a schema, in memory.

    Nothing that a query can do changes it, so all forks of an environment share it. Every process opens its own.
    """

    world: World
    split: str
    schema: Schema

    def query(self, sql: str) -> str:
        """The rows of a query as text, strings in quotes as SQL writes them; or what was wrong with it."""
        # Whoever forked has the parent's connection, which SQLite does not allow to be used.
        opened = _opened(os.getpid(), self)
        try:
            return opened.query(sql)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            return f"error: {error}"

    # By hand, because a world is large.
    def __hash__(self) -> int:
        return hash((self.world.seed, self.split, self.schema))


@lru_cache(maxsize=128)
def _opened(process: int, database: Database) -> _Opened:
    return _Opened(database)


class _Opened:
    """A connection to a database, and the number of steps that its query has left."""

    def __init__(self, database: Database) -> None:
        self.lock = Lock()
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        _fill(self.connection, database)
        # Decides alone what a query may do; the pragmas are for what SQLite does on its own while it runs one.
        for pragma in ("temp_store = MEMORY", "query_only = ON", "trusted_schema = OFF"):
            self.connection.execute(f"PRAGMA {pragma}")
        for limit, value in _LIMITS.items():
            self.connection.setlimit(limit, value)
        self.connection.text_factory = lambda text: text.decode(errors="replace")
        self.connection.set_authorizer(_allowed)
        self.connection.set_progress_handler(self._step, _CHUNK)
        self.left = 0

    def _step(self) -> bool:
        self.left -= _CHUNK
        return self.left < 0

    def query(self, sql: str) -> str:
        with self.lock:
            self.left = MAX_STEPS
            cursor = self.connection.execute(sql)
            try:
                rows = list(islice(cursor, MAX_ROWS + 1))
            finally:
                cursor.close()
        if cursor.description is None and not rows:
            return "error: this is no query"
        lines = [" , ".join(map(_shown, row)) for row in rows[:MAX_ROWS]]
        return "\n".join([*lines, *(["…"] if len(rows) > MAX_ROWS else [])]) or "no rows"


def _allowed(action: int, first: str | None, second: str | None, database: str | None, inner: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_OK if (second or "").lower() in _FUNCTIONS else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY


def _shown(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value[: MAX_CELL // 2].hex()}'"
    if isinstance(value, str):
        short = value if len(value) <= MAX_CELL else value[: MAX_CELL - 1] + "…"
        return "'" + short.replace("'", "''") + "'"
    return str(value)


def _fill(connection: sqlite3.Connection, database: Database) -> None:
    for kind, table in TABLES.items():
        connection.execute(database.schema.statement(kind))
        width = 1 + len(COLUMNS[kind])
        connection.executemany(
            f"INSERT INTO {table} VALUES ({','.join('?' * width)})",
            _rows(database.world, database.split, kind),
        )


def _rows(world: World, split: str, kind: str) -> Iterator[Sequence[str | int]]:
    for index in world.members[split][kind]:
        entity = world.entities[index]
        told = (
            world.entities[entity.links[name]].title if name in entity.links else int(entity.facts[name])
            for name in COLUMNS[kind]
        )
        yield (entity.title, *told)
