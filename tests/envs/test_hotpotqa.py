from __future__ import annotations

import hashlib
import json

import pytest

from at2po_env.dataset import DataError, DataNotFound
from envs.hotpotqa import BENCHMARK

OFFICIAL = {
    "_id": "5a8b",
    "question": "Which town is Tower A in?",
    "answer": "Paris",
    "type": "bridge",
    "level": "hard",
    "supporting_facts": [["Tower A", 0], ["Paris", 1], ["Tower A", 2]],
    "context": [["Tower A", ["Tower A is tall.", " It is in Paris."]], ["Paris", ["Paris is a town."]]],
}
HUGGING_FACE = {
    **OFFICIAL,
    "supporting_facts": {"title": ["Tower A", "Paris", "Tower A"], "sent_id": [0, 1, 2]},
    "context": {
        "title": ["Tower A", "Paris"],
        "sentences": [["Tower A is tall.", " It is in Paris."], ["Paris is a town."]],
    },
}
FLASHRAG = {
    "id": "dev_0",
    "question": OFFICIAL["question"],
    "golden_answers": ["Paris", "City of Paris"],
    "metadata": {key: HUGGING_FACE[key] for key in ("type", "level", "supporting_facts", "context")},
}


def write(folder, name, records, lines=False):
    path = folder / "hotpotqa" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, records)) + "\n" if lines else json.dumps(records))
    return path


def test_the_official_layout(tmp_path):
    path = write(tmp_path, "hotpot_dev_distractor_v1.json", [OFFICIAL])
    dataset = BENCHMARK.load("dev", tmp_path)
    (question,) = dataset.questions
    assert (question.id, question.question, question.answers) == ("5a8b", "Which town is Tower A in?", ("Paris",))
    assert question.supporting_titles == ("Tower A", "Paris")
    assert question.metadata == {"type": "bridge", "level": "hard"}
    assert dataset.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [(p.title, p.text) for p in BENCHMARK.passages("dev", tmp_path)] == [
        ("Tower A", "Tower A is tall. It is in Paris."),
        ("Paris", "Paris is a town."),
    ]


def test_the_hugging_face_layout_says_the_same(tmp_path):
    write(tmp_path / "a", "train.jsonl", [HUGGING_FACE], lines=True)
    write(tmp_path / "b", "hotpot_train_v1.1.json", [OFFICIAL])
    one, two = (BENCHMARK.load("train", tmp_path / folder).questions for folder in "ab")
    assert one == two
    passages = [list(BENCHMARK.passages("train", tmp_path / folder)) for folder in "ab"]
    assert passages[0] == passages[1]


def test_records_without_an_id_are_numbered(tmp_path):
    records = [{key: value for key, value in HUGGING_FACE.items() if key != "_id"}] * 2
    write(tmp_path, "validation.json", records)
    assert [question.id for question in BENCHMARK.load("dev", tmp_path).questions] == ["dev-0", "dev-1"]


def test_the_flashrag_layout(tmp_path):
    write(tmp_path, "dev.jsonl", [FLASHRAG], lines=True)
    (question,) = BENCHMARK.load("dev", tmp_path).questions
    assert (question.id, question.answers) == ("dev_0", ("Paris", "City of Paris"))
    assert (question.supporting_titles, question.metadata["level"]) == (("Tower A", "Paris"), "hard")
    assert len(list(BENCHMARK.passages("dev", tmp_path))) == 2


def test_records_without_contexts_ask_for_an_index(tmp_path):
    write(tmp_path, "dev.jsonl", [{"id": "1", "question": "?", "golden_answers": ["x"]}], lines=True)
    assert len(BENCHMARK.load("dev", tmp_path).questions) == 1
    with pytest.raises(DataNotFound, match=r"dev\.jsonl.*search="):
        list(BENCHMARK.passages("dev", tmp_path))


def test_passages_come_once_and_have_stable_ids(tmp_path):
    other = {**OFFICIAL, "_id": "2", "context": [["Paris", ["Paris is a town."]], ["Paris", ["Another Paris."]]]}
    write(tmp_path, "dev.json", [OFFICIAL, other])
    write(tmp_path, "train.json", [other])
    passages = list(BENCHMARK.passages("dev", tmp_path))
    assert [p.text for p in passages][1:] == ["Paris is a town.", "Another Paris."]
    assert len({p.id for p in passages}) == 3
    assert passages[1:] == list(BENCHMARK.passages("train", tmp_path))


def test_what_is_dropped_is_counted(tmp_path):
    empty = {**OFFICIAL, "_id": "e", "answer": " "}
    write(tmp_path, "dev.json", [OFFICIAL, OFFICIAL, empty, {**OFFICIAL, "_id": "3"}])
    dataset = BENCHMARK.load("dev", tmp_path)
    assert [question.id for question in dataset.questions] == ["5a8b", "3"]
    counts = {"records": 4, "duplicate_ids": 1, "empty_answers": 1, "repeated_questions": 1}
    assert dataset.notes == {"file": "dev.json", **counts}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": None}, "record 1: field 'question' must be text, got NoneType"),
        ({"answer": 3}, "record 1: field 'answer' must be text, got int"),
        ({"_id": 7}, "record 1: field '_id' must be text, got int"),
        ({"golden_answers": "Paris"}, "record 1: field 'golden_answers' must be a list, got str"),
        ({"golden_answers": [1]}, "record 1: field 'golden_answers' must be text, got int"),
        ({"supporting_facts": [["Tower A"]]}, "record 1: field 'supporting_facts' must be a list of pairs"),
        ({"supporting_facts": {"title": ["A"], "sent_id": []}}, "title and sent_id differ in length"),
        ({"supporting_facts": {"title": ["A"]}}, "field 'supporting_facts.sent_id' must be a list"),
    ],
)
def test_bad_records_are_named(tmp_path, change, message):
    write(tmp_path, "dev.json", [OFFICIAL, {**OFFICIAL, "_id": "2", **change}])
    with pytest.raises(DataError, match=rf"dev\.json.*{message}"):
        BENCHMARK.load("dev", tmp_path)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ("text", "field 'context' must be a list, got str"),
        ([["Title", "not a list"]], "field 'context' must be a list, got str"),
        ([["Title", [1]]], "field 'context' must be text, got int"),
        ([[1, ["x"]]], "field 'context' must be text, got int"),
    ],
)
def test_bad_contexts_are_named(tmp_path, context, message):
    write(tmp_path, "dev.json", [{**OFFICIAL, "context": context}])
    with pytest.raises(DataError, match=rf"record 0: {message}"):
        list(BENCHMARK.passages("dev", tmp_path))


def test_missing_data_and_unknown_splits(tmp_path):
    with pytest.raises(DataNotFound, match=r"split 'train'.*hotpot_train_v1\.1\.json.*AT2PO_DATA"):
        BENCHMARK.load("train", tmp_path)
    with pytest.raises(DataNotFound, match="no directory was given"):
        BENCHMARK.load("dev", None)
    with pytest.raises(ValueError, match="'test'; there are train, dev, dev_fullwiki, demo"):
        BENCHMARK.load("test", tmp_path)


@pytest.mark.parametrize(
    ("split", "count", "digest"),
    [("train", 100, "f103dbdf0229"), ("dev", 140, "f295025fa312"), ("dev_fullwiki", 350, "59bcec9736eb")],
)
def test_the_real_files(data_dir, split, count, digest):
    dataset = BENCHMARK.load(split, data_dir)
    assert (len(dataset.questions), dataset.notes["records"], dataset.digest[:12]) == (count, count, digest)
    assert all(len(question.supporting_titles) >= 2 for question in dataset.questions)
    passages = list(BENCHMARK.passages(split, data_dir))
    assert len({p.id for p in passages}) == len({(p.title, p.text) for p in passages}) == len(passages) > 5 * count
    titles = {passage.title for passage in passages}
    found = [set(question.supporting_titles) <= titles for question in dataset.questions]
    assert all(found) or split == "dev_fullwiki"


def test_the_two_dev_files_ask_ten_questions_in_common(data_dir):
    asked = [
        {question.id for question in BENCHMARK.load(split, data_dir).questions} for split in ("dev", "dev_fullwiki")
    ]
    assert len(asked[0] & asked[1]) == 10
