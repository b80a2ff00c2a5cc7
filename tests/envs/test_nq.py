from __future__ import annotations

import json

import pytest

from at2po_env.dataset import DataError
from envs.nq import BENCHMARK


def write(tmp_path, name, *rows):
    (tmp_path / "nq").mkdir(exist_ok=True)
    (tmp_path / "nq" / name).write_text("\n".join(map(json.dumps, rows)))


def test_every_answer_of_the_list_is_gold(tmp_path):
    write(tmp_path, "NQ-open.dev.jsonl", {"question": "who", "answer": ["a", "b", "a"]})
    (question,) = BENCHMARK.load("dev", tmp_path).questions
    assert (question.id, question.question, question.answers) == ("dev-0", "who", ("a", "b"))


def test_the_official_dev_file_is_the_test_set_of_papers(tmp_path):
    write(tmp_path, "NQ-open.dev.jsonl", {"question": "who", "answer": ["a"]})
    assert BENCHMARK.load("test", tmp_path).notes["file"] == "NQ-open.dev.jsonl"
    write(tmp_path, "flashrag_test.jsonl", {"id": "test_0", "question": "who", "golden_answers": ["a"]})
    assert BENCHMARK.load("test", tmp_path).questions[0].id == "test_0"
    write(tmp_path, "flashrag_dev.jsonl", {"id": "dev_0", "question": "x", "golden_answers": ["a"]})
    assert BENCHMARK.load("dev", tmp_path).notes["file"] == "NQ-open.dev.jsonl"


def test_gold_passages(tmp_path):
    contexts = [{"title": "A", "text": "x", "isgold": True}, {"title": "B", "text": "y", "isgold": False}]
    write(tmp_path, "nq-open-oracle.jsonl", {"question": "who", "answers": ["a"], "ctxs": contexts})
    assert BENCHMARK.load("oracle", tmp_path).questions[0].supporting_titles == ("A",)
    assert [(p.title, p.text) for p in BENCHMARK.passages("oracle", tmp_path)] == [("A", "x"), ("B", "y")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "who", "answer": "a"}, "field 'answer' must be a list, got str"),
        ({"question": "who"}, "field 'answer' must be a list, got NoneType"),
        ({"question": "who", "answers": ["a"], "ctxs": [{"isgold": True}]}, "field 'ctxs.title' must be text"),
    ],
)
def test_bad_records_are_named(tmp_path, row, message):
    write(tmp_path, "NQ-open.train.jsonl", {"question": "who", "answer": ["a"]}, row)
    with pytest.raises(DataError, match=rf"train\.jsonl, line 2: {message}"):
        BENCHMARK.load("train", tmp_path)


@pytest.mark.parametrize(
    ("split", "count", "digest"),
    [("dev", 3610, "f15567f38099"), ("test", 3610, "f15567f38099"), ("oracle", 2000, "6f2983ba8089")],
)
def test_the_real_files(data_dir, split, count, digest):
    dataset = BENCHMARK.load(split, data_dir)
    assert (len(dataset.questions), dataset.notes["records"], dataset.digest[:12]) == (count, count, digest)
    if split == "oracle":
        assert len(list(BENCHMARK.passages(split, data_dir))) == 1968
        assert all(len(question.supporting_titles) == 1 for question in dataset.questions)
