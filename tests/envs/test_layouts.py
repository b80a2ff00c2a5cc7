from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from at2po_env.dataset import DataError
from at2po_env.registration import load_benchmark
from at2po_env.state import EpisodeState, Question
from envs.layouts import records
from tests.helpers.hostile_json import with_each_part_replaced


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


ROWS = [{"a": "x", "b": ["p", "q"]}, {"a": "ü", "b": []}]


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("f.json", json.dumps(ROWS), ["record 0", "record 1"]),
        ("f.json", "\ufeff \n" + json.dumps(ROWS, indent=1), ["record 0", "record 1"]),
        ("f.jsonl", "\ufeff" + "\n\n".join(map(json.dumps, ROWS)), ["line 1", "line 3"]),
        ("f.json", json.dumps({"Data": ROWS, "Split": "dev", "Version": 1.0}, indent=2), ["record 0", "record 1"]),
        ("f.json", json.dumps({"Version": 1.0, "Data": ROWS}), ["record 0", "record 1"]),
    ],
)
def test_layouts_of_one_content(tmp_path, name, content, where):
    path = write(tmp_path, name, content)
    found = list(records(path))
    assert [record.fields for record in found] == ROWS
    assert [record.where for record in found] == [f"{path}, {place}" for place in where]
    assert [record.index for record in found] == [0, 1]


@pytest.mark.parametrize(("name", "tab"), [("f.tsv", "\t"), ("f.csv", ",")])
def test_tables_have_quoted_fields_that_may_hold_line_breaks(tmp_path, name, tab):
    path = write(tmp_path, name, tab.join(("a", "b")) + f'\r\n"x\ny"{tab}"[""p""]"\r\n\r\n1{tab}2\r\n')
    found = list(records(path))
    assert [record.fields for record in found] == [{"a": "x\ny", "b": '["p"]'}, {"a": "1", "b": "2"}]
    assert [record.where for record in found] == [f"{path}, line 2", f"{path}, line 5"]
    assert found[0].texts_in_json("b") == ("p",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.jsonl", b'{"a": 1}\nnot json\n', "line 2: not JSON"),
        ("f.json", b'[{"a": 1},\n oops]', "at record 1: not JSON: lexical error"),
        ("f.json", b'[{"a": 1},\n {"a":', "at record 1: not JSON: parse error: premature EOF"),
        ("f.json", b'[{"a": 1}] []', "at record 1: not JSON: parse error: trailing garbage"),
        ("f.json", b'[{"a": "\xff"}]', "at record 0: not JSON: lexical error: invalid bytes in UTF8"),
        ("f.jsonl", b'{"a": 1}\n\xff\xfe', "line 2: not UTF-8 at byte 0"),
        ("f.jsonl", b"3\n", "line 1: a record is a JSON object, got int"),
        ("f.json", b"[[]]", "record 0: a record is a JSON object, got list"),
        ("f.jsonl", b'{"a":' * 100_000, "line 1: JSON nested deeper than 100"),
        ("f.tsv", b"a\tb\n1\n", "line 2: 1 fields instead of 2"),
        ("f.tsv", b'a\tb\n1\t"2\n', "line 2: not a table"),
        ("f.csv", b"a,b\n1,2\n\xff,2\n", "line 3: not UTF-8"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(DataError) as caught:
        list(records(path))
    assert str(caught.value).startswith(f"{path}, ") and message in str(caught.value)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"PAR1\x15\x04", "not Parquet that can be read"),
        (b"PK\x03\x04\x14\x00", "is a zip archive; install what is in it with `at2po-agent data import"),
        (b"\x1f\x8b\x08\x00", "is packed with gzip; install what is in it with `at2po-agent data import"),
    ],
)
def test_a_download_that_is_still_packed_is_told_what_to_do_with(tmp_path, start, message):
    with pytest.raises(DataError, match=rf"f\.json.*: {message}"):
        list(records(write(tmp_path, "f.json", start)))


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", Path("/dev/zero"), tmp_path):
        with pytest.raises(DataError, match=f"{path}: is no regular file"):
            list(records(path))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.json: cannot be read: No such file"):
        list(records(tmp_path / "nowhere.json"))


def test_an_array_is_not_held_in_memory(tmp_path):
    """The first records are there before the end of the file has been looked at."""
    path = write(tmp_path, "f.json", "[" + ",".join([json.dumps({"a": "x" * 1000})] * 1000) + ", broken")
    stream = records(path)
    assert [next(stream).text("a")[:2] for _ in range(100)] == ["xx"] * 100
    with pytest.raises(DataError, match="at record 1000"):
        list(stream)


def one(tmp_path, value):
    return next(records(write(tmp_path, "f.jsonl", json.dumps(value))))


def test_metadata_is_read_as_part_of_the_record(tmp_path):
    record = one(tmp_path, {"id": "1", "metadata": {"id": "other", "type": "bridge"}})
    assert (record.text("id"), record.text("type")) == ("1", "bridge")


def test_pairs_have_three_forms(tmp_path):
    forms = [
        [["A", ["x"]], ["B", ["y", "z"]]],
        [{"title": "A", "content": ["x"]}, {"title": "B", "sentences": ["y", "z"]}],
        {"title": ["A", "B"], "content": [["x"], ["y", "z"]]},
    ]
    for form in forms:
        found = one(tmp_path, {"context": form}).pairs("context", "title", "sentences", "content")
        assert found == [("A", ["x"]), ("B", ["y", "z"])]
    assert one(tmp_path, {}).pairs("context", "title", "sentences") == []


@pytest.mark.parametrize(
    ("method", "value", "message"),
    [
        ("text", None, "must be text, got NoneType"),
        ("texts", "x", "must be a list, got str"),
        ("texts", ["x", 1], "must be text, got int"),
        ("texts_in_json", "[1]", "must be text, got int"),
        ("texts_in_json", "[", "must be a JSON list of texts"),
        ("objects", [[]], "must be an object, got list"),
    ],
)
def test_bad_fields_are_named(tmp_path, method, value, message):
    with pytest.raises(DataError) as caught:
        getattr(one(tmp_path, {"f": value}), method)("f")
    assert f"line 1: field 'f' {message}" in str(caught.value)


def test_answers_come_once_in_order(tmp_path):
    assert one(tmp_path, {"answer": "a", "aliases": ["b", "a", "b"]}).answers("answer", "aliases") == ("a", "b")
    assert one(tmp_path, {"answer": "a", "golden_answers": ["g", "g"]}).answers("answer") == ("g",)


OWN = {
    "hotpotqa": {
        "_id": "5",
        "question": "q?",
        "answer": "a",
        "type": "bridge",
        "level": "hard",
        "supporting_facts": [["t", 0]],
        "context": [["t", ["s"]]],
    },
    "musique": {
        "id": "2hop__1_2",
        "question": "q?",
        "answer": "a",
        "answer_aliases": ["b"],
        "answerable": True,
        "paragraphs": [{"idx": 0, "title": "t", "paragraph_text": "p", "is_supporting": True}],
        "question_decomposition": [{"id": 1, "question": "q", "answer": "a", "paragraph_support_idx": 0}],
    },
    "nq": {"question": "q?", "answers": ["a"], "ctxs": [{"title": "t", "text": "p", "isgold": True}]},
    "triviaqa": {"QuestionId": "1", "Question": "q?", "Answer": {"Value": "a", "Aliases": ["b"]}},
    "popqa": {"id": 1, "question": "q?", "possible_answers": '["a"]', "s_wiki_title": "t", "prop": "p"},
}


@pytest.mark.fault("item 23: a benchmark's file in which one part is something else")
@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("array", [False, True])
def test_whatever_a_part_of_a_record_is_there_is_a_question_or_an_error_of_ours(tmp_path, name, array):
    benchmark = load_benchmark(name)
    for made in with_each_part_replaced(OWN[name]):
        path = write(tmp_path, "f.json", json.dumps([made] if array else made))
        try:
            for record in records(path):
                question = benchmark.read(record, "dev")
                found = [*benchmark.context(record)] if benchmark.context else []
                json.dumps([str(question), found], ensure_ascii=False).encode()
                if isinstance(question, Question):
                    EpisodeState.begin(question, "rules").to_json()
        except DataError:
            continue
