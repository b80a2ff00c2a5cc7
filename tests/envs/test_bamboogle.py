from __future__ import annotations

import json

import pytest

from at2po_env.dataset import DataError, DataNotFound
from envs.bamboogle import BENCHMARK


def write(tmp_path, name, text):
    (tmp_path / "bamboogle").mkdir(exist_ok=True)
    (tmp_path / "bamboogle" / name).write_text(text)


def test_the_table_and_the_same_fields_as_json(tmp_path):
    expected = [("test-0", "When, exactly?", ("May 29, 1932",)), ("test-1", "Who?", ("me",))]
    write(
        tmp_path,
        "test.jsonl",
        '{"Question": "When, exactly?", "Answer": "May 29, 1932"}\n{"Question": "Who?", "Answer": "me"}',
    )
    assert [(q.id, q.question, q.answers) for q in BENCHMARK.load("test", tmp_path).questions] == expected
    write(tmp_path, "bamboogle.csv", 'Question,Answer\n"When, exactly?","May 29, 1932"\nWho?,me\n')
    assert [(q.id, q.question, q.answers) for q in BENCHMARK.load("test", tmp_path).questions] == expected


def test_bad_rows_are_named(tmp_path):
    write(tmp_path, "bamboogle.csv", "Question,Answer\nWho?,me\nWho,else?,x\n")
    with pytest.raises(DataError, match=r"bamboogle\.csv, line 3: 3 fields instead of 2 \(Question, Answer\)"):
        BENCHMARK.load("test", tmp_path)
    write(tmp_path, "bamboogle.csv", "Question,Reply\nWho?,me\n")
    with pytest.raises(DataError, match="line 2: field 'Answer' must be text, got NoneType"):
        BENCHMARK.load("test", tmp_path)
    write(tmp_path, "bamboogle.csv", json.dumps({"Question": "?"}))
    with pytest.raises(DataError, match="no questions to score"):
        BENCHMARK.load("test", tmp_path)


def test_the_real_file(data_dir):
    dataset = BENCHMARK.load("test", data_dir)
    assert (len(dataset.questions), dataset.notes["records"], dataset.digest[:12]) == (125, 125, "f68ca34823d0")
    assert {q.question: q.answers for q in dataset.questions}["When was the author of The Population Bomb born?"] == (
        "May 29, 1932",
    )
    with pytest.raises(DataNotFound, match="no contexts to search; name an index with search="):
        list(BENCHMARK.passages("test", data_dir))
