from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from at2po_agent.planning.gates import gates
from at2po_env.scripts import play
from at2po_env.testing import TaskContract
from at2po_env.tool_env import ToolEnv
from envs.microsql import MicroSQL, make
from envs.microsql_database import TABLES
from envs.microsql_play import SQLTeacher

TINY = {"world": "tiny", "dialect": "bare"}


def sql(query: str) -> str:
    return f"<sql>{query}</sql>"


class TestMicroSQL(TaskContract):
    def make_env(self) -> ToolEnv:
        return make("dev", **TINY)

    def actions(self) -> list[str]:
        return [sql("select sql from sqlite_master"), sql("select 1"), sql("drop table x"), "<answer>Kelgor</answer>"]

    def other_actions(self) -> list[str]:
        return [sql("select 2"), "<answer>Borlan</answer>"]


def played(env: MicroSQL, task_id: str, *turns: str) -> dict[str, Any]:
    _, info = env.reset(options={"task_id": task_id})
    for turn in turns:
        info = env.step(turn)[4]
    return info


def test_it_is_registered_and_takes_rules_and_worlds() -> None:
    env = gymnasium.make("AT2PO-MicroSQL-v0", split="test", max_turns=3, **TINY).unwrapped
    assert isinstance(env, MicroSQL) and env.rules.max_turns == 3
    assert env.manifest()["dataset"]["name"] == "microsql"
    for wrong in ({"split": "demo"}, {"world": "huge"}, {"max_turns": 0}):
        with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
            make(**{**TINY, **wrong})  # type: ignore[arg-type]


def test_the_splits_ask_about_different_things() -> None:
    envs = [make(split, **TINY) for split in ("train", "dev", "test")]
    asked = [{env.task(task_id).text for task_id in env.tasks} for env in envs]
    answers = [{env.task(task_id).answers[0] for task_id in env.tasks} for env in envs]
    for sets in (asked, answers):
        assert all(len(one) > 1 for one in sets)
        assert sum(map(len, sets)) == len(set().union(*sets))


def test_the_prompt_does_not_tell_the_schema() -> None:
    env = make("test", world="tiny")
    prompt, info = env.reset(seed=0)
    schema = env.schema(info["task_id"])
    words = set(prompt.replace("'", " ").replace("?", " ").split())
    assert not words & {schema.key, *TABLES.values()}
    assert "CREATE TABLE" not in prompt


@pytest.mark.parametrize("dialect", ["bare", "tags", "chat", "native"])
def test_the_teacher_without_faults_answers_every_question_in_every_dialect(dialect: str) -> None:
    env = make("test", world="tiny", dialect=dialect)
    ends = [play(env, task_id, SQLTeacher(), np.random.default_rng(0)) for task_id in env.tasks[:30]]
    assert all(end["success"] == 1 for end in ends)
    assert {end["turns"] for end in ends} == {3, 4}


def test_every_fault_costs_answers_and_a_relation_learned_wrongly_always_the_same_way() -> None:
    env = make("train", **TINY)

    def share(teacher: SQLTeacher) -> float:
        ends = [play(env, i, teacher, np.random.default_rng(n)) for n, i in enumerate(env.tasks[:60])]
        return float(np.mean([end["success"] for end in ends]))

    assert share(SQLTeacher()) == 1
    faults = [
        {"wrong_relations": ("teacher", "author"), "wrong_column": 1.0},
        {"random_column": 0.5},
        {"stop_early": 1.0},
    ]
    assert all(0.1 < share(SQLTeacher(**fault)) < 0.9 for fault in faults)  # type: ignore[arg-type]
    teacher = next(i for i in env.tasks if env.plan(i)[1] == ["teacher"])
    play(env, teacher, SQLTeacher(("teacher",), 1.0), np.random.default_rng(0))
    assert "select employer from people" in env.transcript(env.snapshot())[1].text


@pytest.mark.parametrize("faults", [{"wrong_column": 2.0}, {"stop_early": -0.1}, {"wrong_relations": ("height",)}])
def test_faults_that_there_cannot_be_are_errors(faults: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(faults))):
        SQLTeacher(**faults)


def test_the_gates_say_that_one_statement_alone_is_not_enough() -> None:
    report = gates("AT2PO-MicroSQL-v0", questions=200, dialect="bare")
    assert {gate.name for gate in report.gates} == {"one statement", "no skill", "oracle"}
    assert report.passed


def test_the_answer_counts_normalised_and_nothing_else_does() -> None:
    env = make("dev", **TINY)
    task = env.tasks[0]
    gold = env.task(task).answers[0]
    assert played(env, task, f"<answer> the '{gold.upper()}'.</answer>")["success"] == 1
    assert played(env, task, f"<answer>{gold} or so</answer>")["success"] == 0
    assert played(env, task, *[sql("select 1")] * 6)["ended"] == "turn_limit"


def test_what_goes_wrong_has_an_observation_and_the_episode_goes_on() -> None:
    env = make("dev", **TINY)
    env.reset(seed=0)
    for query in (
        "delete from sqlite_master",
        "select \x00",
        "\ud800",
        '{"query": 3}',
        '{"q": 1}',
        "select 1; select 2",
    ):
        observation, _, terminated, truncated, info = env.fork(1)[0].step(sql(query))
        assert not terminated and not truncated and info["action"]["kind"] == "call"
        assert "error: " in observation and len(observation) < 1200
