from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium
import pyarrow.parquet
import pytest

from at2po_agent.commands.main import main
from at2po_env.dataset import DataError
from at2po_env.errors import EnvError
from at2po_env.integrations.tables import rows, to_dataset, write_search_r1
from at2po_env.registration import load_benchmark
from examples.number_game import make_env as number_game
from tests.helpers.env_doubles import QUESTIONS, make_env


def test_rows_hold_every_task_in_order_with_what_a_model_reads_first():
    env = make_env(dialect="chat")
    found = list(rows(env))
    assert [(row["id"], row["question"], row["answers"]) for row in found] == [
        (question.id, question.question, list(question.answers)) for question in QUESTIONS
    ]
    for row in found:
        observation, _ = env.reset(options={"task_id": row["id"]})
        assert row["prompt"] == [{"role": "user", "content": observation}]
    assert (found[0]["data_source"], found[0]["split"], found[2]["group"]) == ("own", "all", "comparison")
    assert {row["tools"] for row in found} == {""}


def test_rows_of_native_calls_carry_the_tools():
    env = make_env(dialect="native")
    assert [json.loads(row["tools"]) for row in rows(env)] == [list(env.dialect.tools)] * 3


def test_an_episode_under_way_goes_on():
    env = make_env()
    env.reset(options={"task_id": "q2"})
    here = env.snapshot()
    list(rows(env))
    assert env.snapshot() == here


@pytest.mark.parametrize("name", ["hotpotqa", "2wikimultihopqa", "musique", "bamboogle", "nq", "triviaqa", "popqa"])
def test_what_is_written_for_search_r1_is_read_back_as_the_same_questions(tmp_path, name):
    env_id = {"hotpotqa": "HotpotQA", "2wikimultihopqa": "2WikiMultiHopQA", "musique": "MuSiQue", "nq": "NQ"}
    env_id |= {"bamboogle": "Bamboogle", "triviaqa": "TriviaQA", "popqa": "PopQA"}
    path = tmp_path / "train.parquet"
    env = gymnasium.make(f"AT2PO-{env_id[name]}-v0", split="demo").unwrapped
    assert write_search_r1(env, path) == len(env.tasks)
    read = load_benchmark(name).load_file(path, "train").questions
    for written, again in zip(env.questions, read, strict=True):
        assert (again.id, again.question, again.answers) == (written.id, written.question, written.answers)
        assert again.supporting_titles == written.supporting_titles


def test_the_layout_is_the_one_of_search_r1(tmp_path):
    env = make_env()
    read, _ = env.reset(options={"task_id": "q3"})
    write_search_r1(env, tmp_path / "f.parquet")
    row = pyarrow.parquet.read_table(tmp_path / "f.parquet").to_pylist()[2]
    assert list(row) == [
        *("id", "question", "golden_answers", "data_source", "prompt", "ability", "reward_model", "extra_info"),
        "metadata",
    ]
    assert (row["id"], row["golden_answers"], row["ability"]) == ("q3", ["yes"], "fact-reasoning")
    assert (row["question"], row["data_source"]) == (QUESTIONS[2].question, "own")
    assert row["prompt"] == [{"role": "user", "content": read}]
    assert row["reward_model"] == {"style": "rule", "ground_truth": {"target": ["yes"]}}
    assert row["extra_info"] == {"index": 2, "split": "all"}
    assert row["metadata"] == {"supporting_titles": ["Paris"], "type": "comparison"}


def test_tasks_without_answers_are_no_rows_of_search_r1(tmp_path):
    with pytest.raises(DataError, match=r"'to-11'.* has no reference answers"):
        write_search_r1(number_game(), tmp_path / "f.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("levels", [("hard", 3), (3, "hard"), (3, 2**63)])
def test_metadata_of_mixed_kinds_are_refused(tmp_path, levels):
    questions = [replace(one, metadata={"level": level}) for one, level in zip(QUESTIONS, levels, strict=False)]
    with pytest.raises(DataError, match=r"f\.parquet: metadata of one name must be"):
        write_search_r1(make_env(questions=tuple(questions)), tmp_path / "f.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'at2po\[parquet\]'"):
        write_search_r1(make_env(), tmp_path / "f.parquet")
    with pytest.raises(EnvError, match=r"pip install 'at2po\[datasets\]'"):
        to_dataset(make_env())


def test_the_command_writes_a_file(tmp_path: Path, capsys):
    out = tmp_path / "train.parquet"
    words = ["data", "export", "AT2PO-HotpotQA-v0", "--split", "demo", "dialect=search_r1"]
    assert main([*words, "--out", str(out)]) == 0
    table = pyarrow.parquet.read_table(out).to_pylist()
    assert f"{len(table)} questions → {out}" in capsys.readouterr().out
    assert "<information>" in table[0]["prompt"][0]["content"]
    assert main([*words, "--out", str(tmp_path / "no" / "folder.parquet")]) == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.integration
@pytest.mark.parametrize("make", [lambda: make_env(dialect="native"), number_game], ids=["questions", "game"])
def test_the_real_dataset_holds_the_rows(make):
    env = make()
    dataset = to_dataset(env)
    assert dataset.to_list() == list(rows(env))
