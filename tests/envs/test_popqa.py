from __future__ import annotations

import json

import pytest

from at2po_env.dataset import DataError
from envs.popqa import BENCHMARK

TABLE = (
    "id\tsubj\tprop\ts_wiki_title\ts_pop\tquestion\tpossible_answers\n"
    '4222362\tGeorge Rankin\toccupation\tGeorge Rankin\t142\tWhat is his job?\t"[""politician"", ""pol""]"\n'
)
ROW = {
    "id": 4222362,
    "prop": "occupation",
    "s_wiki_title": "George Rankin",
    "s_pop": 142,
    "question": "What is his job?",
    "possible_answers": '["politician", "pol"]',
}
FLASHRAG = {
    "id": "4222362",
    "question": "What is his job?",
    "golden_answers": ["politician", "pol"],
    "metadata": {key: ROW[key] for key in ("prop", "s_wiki_title", "s_pop")},
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("popQA.tsv", TABLE),
        ("test.jsonl", json.dumps(ROW)),
        ("test.jsonl", json.dumps({**ROW, "possible_answers": ["politician", "pol"]})),
        ("flashrag_test.jsonl", json.dumps(FLASHRAG)),
    ],
)
def test_all_layouts_say_the_same(tmp_path, name, content):
    (tmp_path / "popqa").mkdir()
    (tmp_path / "popqa" / name).write_text(content)
    (question,) = BENCHMARK.load("test", tmp_path).questions
    assert (question.id, question.question) == ("4222362", "What is his job?")
    assert question.answers == ("politician", "pol")
    assert (question.supporting_titles, question.metadata) == (("George Rankin",), {"type": "occupation"})


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("politician", "field 'possible_answers' must be a JSON list of texts"),
        ('"[1]"', "field 'possible_answers' must be text, got int"),
        ('"{}"', "field 'possible_answers' must be a list, got dict"),
    ],
)
def test_bad_rows_are_named(tmp_path, cell, message):
    (tmp_path / "popQA.tsv").write_text(TABLE + f"1\tX\toccupation\tX\t1\t?\t{cell}\n")
    with pytest.raises(DataError, match=rf"popQA\.tsv, line 3: {message}"):
        BENCHMARK.load("test", tmp_path)


def test_the_real_files(data_dir):
    official = BENCHMARK.load("test", data_dir)
    assert (len(official.questions), official.notes["records"], official.digest[:12]) == (700, 700, "7d8ae72a4e5d")
    assert official.questions[0].answers == ("politician", "political leader", "political figure", "polit.", "pol")
    assert all(question.supporting_titles for question in official.questions)
    flashrag = BENCHMARK.load_file(data_dir / "popqa" / "flashrag_test.jsonl", "test")
    assert (len(flashrag.questions), flashrag.notes["repeated_questions"]) == (700, 7)
    assert all(question.metadata["type"] for question in flashrag.questions)
