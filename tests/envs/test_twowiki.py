from __future__ import annotations

import json
from collections import Counter

import pytest

from at2po_env.dataset import DataError
from envs.twowiki import BENCHMARK

OFFICIAL = {
    "_id": "9b3d",
    "type": "bridge_comparison",
    "question": "Which film has the director who died earlier, A or B?",
    "context": [["A", ["A is a film.", " It is old."]], ["Ann", ["Ann directed A."]], ["B", ["B is a film."]]],
    "entity_ids": "Q1_Q2",
    "supporting_facts": [["A", 0], ["B", 0], ["Ann", 0]],
    "evidences": [["A", "director", "Ann"]],
    "evidences_id": [["Q1", "director", "Q2"]],
    "answer": "A",
    "answer_id": "Q1",
}
HUGGING_FACE = {
    "id": "9b3d",
    **{key: OFFICIAL[key] for key in ("type", "question", "answer", "evidences")},
    "supporting_facts": {"title": ["A", "B", "Ann"], "sent_id": [0, 0, 0]},
    "context": {
        "title": ["A", "Ann", "B"],
        "sentences": [["A is a film.", " It is old."], ["Ann directed A."], ["B is a film."]],
    },
}
OBJECTS = {
    **HUGGING_FACE,
    "supporting_facts": [{"title": title, "sent_id": number} for title, number in OFFICIAL["supporting_facts"]],
    "context": [{"title": title, "content": sentences} for title, sentences in OFFICIAL["context"]],
}
FLASHRAG = {
    "id": "9b3d",
    "question": OFFICIAL["question"],
    "golden_answers": ["A"],
    "metadata": {
        "type": OFFICIAL["type"],
        "supporting_facts": HUGGING_FACE["supporting_facts"],
        "context": {"title": ["A", "Ann", "B"], "content": HUGGING_FACE["context"]["sentences"]},
    },
}


@pytest.mark.parametrize("record", [OFFICIAL, HUGGING_FACE, OBJECTS, FLASHRAG])
def test_all_layouts_say_the_same(tmp_path, record):
    (tmp_path / "2wikimultihopqa").mkdir()
    (tmp_path / "2wikimultihopqa" / "dev.jsonl").write_text(json.dumps(record))
    (question,) = BENCHMARK.load("dev", tmp_path).questions
    assert (question.id, question.answers, question.metadata) == ("9b3d", ("A",), {"type": "bridge_comparison"})
    assert question.supporting_titles == ("A", "B", "Ann")
    assert [(p.title, p.text) for p in BENCHMARK.passages("dev", tmp_path)] == [
        ("A", "A is a film. It is old."),
        ("Ann", "Ann directed A."),
        ("B", "B is a film."),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": None}, "field 'answer' must be text, got NoneType"),
        ({"supporting_facts": [{"title": "A"}, 3]}, "field 'supporting_facts' must be a list of pairs"),
        ({"supporting_facts": [[1, 0]]}, "field 'supporting_facts' must be text, got int"),
    ],
)
def test_bad_records_are_named(tmp_path, change, message):
    (tmp_path / "2wikimultihopqa").mkdir()
    (tmp_path / "2wikimultihopqa" / "dev.json").write_text(json.dumps([OFFICIAL, {**OFFICIAL, **change}]))
    with pytest.raises(DataError, match=rf"dev\.json, record 1: {message}"):
        BENCHMARK.load("dev", tmp_path)


@pytest.mark.parametrize(
    ("split", "count", "passages", "digest"), [("train", 500, 3112, "dec24bd68dc4"), ("dev", 110, 889, "f27b7f412db6")]
)
def test_the_real_files(data_dir, split, count, passages, digest):
    dataset = BENCHMARK.load(split, data_dir)
    assert (len(dataset.questions), dataset.notes["records"], dataset.digest[:12]) == (count, count, digest)
    kinds = Counter(question.metadata["type"] for question in dataset.questions)
    assert set(kinds) == {"compositional", "comparison", "bridge_comparison", "inference"}
    found = list(BENCHMARK.passages(split, data_dir))
    assert len(found) == len({(p.title, p.text) for p in found}) == passages
    titles = {passage.title for passage in found}
    assert all(set(question.supporting_titles) <= titles for question in dataset.questions)
