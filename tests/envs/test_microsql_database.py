from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path
from time import thread_time

import pytest

from envs.microsql_database import COLUMNS, KEYS, MAX_CELL, MAX_ROWS, TABLES, USUAL, Database, Schema
from envs.microwiki import PRESETS, generate
from envs.microwiki_world import Dice

WORLD = generate(PRESETS["small"])
DATABASE = Database(WORLD, "test", USUAL)
ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select"


def test_the_schema_is_shown_as_four_rows() -> None:
    assert DATABASE.query("select sql from sqlite_master").splitlines() == [
        "'CREATE TABLE people ( name , birthplace , teacher , employer )'",
        "'CREATE TABLE towns ( name , mayor , count )'",
        "'CREATE TABLE companies ( name , founder , seat )'",
        "'CREATE TABLE books ( name , author , publisher , setting )'",
    ]


def test_the_tables_say_what_the_world_is() -> None:
    for kind, columns in COLUMNS.items():
        table = TABLES[kind]
        assert DATABASE.query(f"select count(*) from {table}") == str(len(WORLD.members["test"][kind]))
        entity = WORLD.entities[WORLD.members["test"][kind][3]]
        for told in columns:
            linked = entity.links.get(told)
            value = entity.facts[told] if linked is None else f"'{WORLD.entities[linked].title}'"
            assert DATABASE.query(f"select {told} from {table} where name = '{entity.title}'") == value


def test_a_database_calls_the_column_of_names_something_and_other_dice_something_else() -> None:
    schemas = {Schema.drawn(Dice("schema", number)) for number in range(100)}
    assert {schema.key for schema in schemas} == set(KEYS) and Schema.drawn(Dice("schema", 0)) in schemas
    shown = Database(WORLD, "test", Schema("alias")).query("select sql from sqlite_master").splitlines()
    assert [line.split()[4] for line in shown] == ["alias"] * len(TABLES)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("select 1, 2.5, null, 'it''s'", "1 , 2.5 , NULL , 'it''s'"),
        ("select x'00ff'", "x'00ff'"),
        ("select cast(x'ff41' as text)", "'\N{REPLACEMENT CHARACTER}A'"),
        ("select 1 where 0", "no rows"),
        ("select name from people where name = 'Nobody'", "no rows"),
        ("select /* why */ 1 -- because", "1"),
        ("select 1;", "1"),
        ("explain query plan select 1", None),
    ],
)
def test_values_are_written_as_sql_writes_them(query: str, shown: str | None) -> None:
    result = DATABASE.query(query)
    assert not result.startswith("error") and shown in (None, result)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("insert into people values ('a', 'b', 'c', 'd')", "not authorized"),
        ("update people set name = 'x'", "not authorized"),
        ("delete from people", "not authorized"),
        ("drop table people", "not authorized"),
        ("create table mine (a)", "not authorized"),
        ("create temp table mine (a)", "not authorized"),
        ("create view mine as select 1", "not authorized"),
        ("alter table people rename to folk", "not authorized"),
        ("replace into sqlite_master values (1, 2, 3, 4, 5)", "may not be modified|not authorized"),
        ("pragma table_info(people)", "not authorized"),
        ("pragma query_only = off", "not authorized"),
        ("pragma writable_schema = on", "not authorized"),
        ("select * from pragma_table_info('people')", "not authorized|prohibited|no such table"),
        ("attach '{file}' as other", "not authorized|too many attached"),
        ("detach main", "not authorized"),
        ("vacuum into '{file}'", "authorization denied"),
        ("vacuum", "authorization denied"),
        ("begin", "not authorized"),
        ("savepoint a", "not authorized"),
        ("reindex people", "no query|not authorized"),
        ("analyze", "not authorized"),
        ("select load_extension('{file}')", "not authorized"),
        ("select readfile('/etc/passwd')", "no such function"),
        ("select writefile('{file}', 'x')", "no such function"),
        ("select random()", "not authorized"),
        ("select hex(randomblob(9))", "not authorized"),
        ("select datetime('now')", "not authorized"),
        ("select current_timestamp", "not authorized"),
        ("select zeroblob(1000000000)", "not authorized"),
        ("select printf('%.*c', 100000000, 'x')", "not authorized"),
        ("select format('%.*c', 100000000, 'x')", "not authorized"),
        ("select sqlite_version()", "not authorized"),
        ("select 1; delete from people", "one statement at a time"),
        ("select 1; select 2", "one statement at a time"),
        ("", "no query"),
        ("-- nothing but words", "no query"),
        (";", "no query"),
        ("select", "incomplete input"),
        ("selekt name from people", "syntax error"),
        ("select age from people", "no such column"),
        ("select name from nobody", "no such table"),
        ("select 'a\0b'", "null character"),
        ("select '\ud800'", "surrogates"),
        ("select ?", "binding"),
        ("select " + "(" * 500 + "1" + ")" * 500, "too deep|too large|stack overflow|maximum depth|syntax error"),
        ("select '" + "x" * 100_000 + "'", "too big|too large"),
        ("select " + " union all select ".join(["1"] * 100), "too many terms"),
        ("select " + ",".join(["1"] * 900), "too many columns"),
        (f"{ENDLESS} i from n where i < 0", "interrupted"),
        (f"{ENDLESS} count(*) from n", "interrupted"),
        (f"{ENDLESS} group_concat(i) from n", "interrupted|too big"),
        (f"{ENDLESS} max(i || replace('aaaaaaaa', 'a', 'bbbbbbbbbbbb')) from n order by 1", "interrupted"),
        ("select count(*) from people a, people b, people c, people d", "interrupted"),
        ("with recursive n(s) as (select 'aaaaaaaa' union all select s || s from n) select max(s) from n", "big"),
        ("select 'x' like '" + "%x" * 100 + "'", "too complex"),
    ],
)
def test_a_hostile_query_is_one_line_within_a_second_of_work_and_changes_nothing(
    query: str, why: str, tmp_path: Path
) -> None:
    database = Database(WORLD, "test", USUAL)
    before = database.query("select count(*) from people")
    began = thread_time()
    result = database.query(query.replace("{file}", str(tmp_path / "file")))
    assert thread_time() - began < 1
    assert result.startswith("error: ") and len(result) < 3000
    assert any(part in result for part in why.split("|")), result
    assert database.query("select count(*) from people") == before
    assert list(tmp_path.iterdir()) == []


def test_wildcards_that_match_slowly_are_bounded() -> None:
    began = thread_time()
    texts = "replace('" + "a" * 60 + "', 'a', '" + "a" * 60 + "')"
    pattern = "%" + "a%" * 24 + "b"
    result = DATABASE.query(f"select count(*) from people where {texts} like '{pattern}'")
    assert result == "0" or result.startswith("error: ")
    assert thread_time() - began < 2


def test_a_result_shows_five_rows_and_short_values() -> None:
    lines = DATABASE.query("select name from people").splitlines()
    assert len(lines) == MAX_ROWS + 1 and lines[-1] == "…"
    exactly = DATABASE.query("select name from people limit 5").splitlines()
    assert exactly == lines[:-1]
    wide = DATABASE.query("select replace('" + "x" * 60 + "', 'x', '" + "y" * 50 + "'), x'" + "00" * 900 + "'")
    assert len(wide) < 2 * MAX_CELL + 20 and "…" in wide
    first = DATABASE.query(f"{ENDLESS} i from n").splitlines()
    assert first == ["1", "2", "3", "4", "5", "…"]


def test_a_query_takes_as_many_steps_wherever_it_runs() -> None:
    """The bound is of instructions, so whether a query is ended does not depend on the machine."""
    nearly = f"{ENDLESS} count(*) from (select i from n limit %d)"
    assert [DATABASE.query(nearly % count) for count in (1_000, 10_000)] == ["1000", "10000"]
    assert DATABASE.query(nearly % 1_000_000) == "error: interrupted"


def test_threads_and_forked_processes_ask_at_the_same_time() -> None:
    wanted = DATABASE.query("select count(*) from people")
    results: list[str] = []

    def ask() -> None:
        results.extend(DATABASE.query("select count(*) from people") for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [wanted] * 80
    if hasattr(os, "fork"):
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply(DATABASE.query, ("select count(*) from people",)) == wanted
