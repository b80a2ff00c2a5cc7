from __future__ import annotations

import json
from collections import Counter

import pytest

from at2po_env.dataset import DataError, DataNotFound
from envs.musique import BENCHMARK

PARAGRAPHS = [
    {"idx": 0, "title": "Noise", "paragraph_text": "Nothing.", "is_supporting": False},
    {"idx": 1, "title": "Town", "paragraph_text": "The town lies on the Sill.", "is_supporting": True},
    {"idx": 2, "title": "Person", "paragraph_text": "Born in Town.", "is_supporting": True},
]
OFFICIAL = {
    "id": "2hop__1_2",
    "paragraphs": PARAGRAPHS,
    "question": "On what river was Person born?",
    "question_decomposition": [
        {"id": 1, "question": "Person >> born", "answer": "Town", "paragraph_support_idx": 2},
        {"id": 2, "question": "#1 >> river", "answer": "Sill", "paragraph_support_idx": 1},
    ],
    "answer": "Sill",
    "answer_aliases": ["River Sill", "Sill"],
    "answerable": True,
}
UNANSWERABLE = {
    **OFFICIAL,
    "answerable": False,
    "question_decomposition": [{**step, "paragraph_support_idx": None} for step in OFFICIAL["question_decomposition"]],
}


def write(tmp_path, name, *rows):
    (tmp_path / "musique").mkdir(exist_ok=True)
    (tmp_path / "musique" / name).write_text("\n".join(map(json.dumps, rows)))


def test_aliases_count_and_supporting_titles_come_in_the_order_of_the_steps(tmp_path):
    write(tmp_path, "musique_ans_v1.0_dev.jsonl", OFFICIAL)
    (question,) = BENCHMARK.load("dev", tmp_path).questions
    assert question.answers == ("Sill", "River Sill")
    assert question.supporting_titles == ("Person", "Town")
    assert question.metadata == {"hops": 2}
    assert [p.title for p in BENCHMARK.passages("dev", tmp_path)] == ["Noise", "Town", "Person"]


def test_unanswerable_rows_are_left_out_and_counted_though_they_share_ids(tmp_path):
    write(tmp_path, "musique_full_v1.0_dev.jsonl", UNANSWERABLE, OFFICIAL)
    dataset = BENCHMARK.load("dev_full", tmp_path)
    assert [question.answers for question in dataset.questions] == [("Sill", "River Sill")]
    assert (dataset.notes["records"], dataset.notes["unanswerable"], dataset.notes["duplicate_ids"]) == (2, 1, 0)


def test_flashrag(tmp_path):
    steps = [{"support_paragraph": {"title": title, "paragraph_text": "x"}} for title in ("Person", "Town", "Person")]
    row = {"id": "dev_0", "question": "?", "golden_answers": ["Sill", "River Sill"]}
    write(tmp_path, "dev.jsonl", row, {**row, "id": "dev_1", "metadata": {"question_decomposition": steps}})
    one, two = BENCHMARK.load("dev", tmp_path).questions
    assert (one.answers, one.supporting_titles, one.metadata) == (("Sill", "River Sill"), (), {})
    assert (two.metadata, two.supporting_titles) == ({"hops": 3}, ("Person", "Town"))
    with pytest.raises(DataNotFound, match="no contexts to search; name an index with search="):
        list(BENCHMARK.passages("dev", tmp_path))
    write(tmp_path, "dev.jsonl", {**row, "metadata": {"question_decomposition": [{"support_paragraph": {"title": 1}}]}})
    with pytest.raises(DataError, match=r"line 1: field 'support_paragraph\.title' must be text, got int"):
        BENCHMARK.load("dev", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answerable": "yes"}, "field 'answerable' must be true or false, got str"),
        ({"answer_aliases": 3}, "field 'answer_aliases' must be text"),
        ({"paragraphs": [[]]}, "field 'paragraphs' must be an object, got list"),
        ({"paragraphs": PARAGRAPHS[:2]}, "names a paragraph_support_idx that no paragraph has"),
        ({"paragraphs": [*PARAGRAPHS[:2], {**PARAGRAPHS[2], "title": 3}]}, "field 'paragraphs.title' must be text"),
    ],
)
def test_bad_records_are_named(tmp_path, change, message):
    write(tmp_path, "dev.jsonl", OFFICIAL, {**OFFICIAL, "id": "x", **change})
    with pytest.raises(DataError, match=rf"dev\.jsonl, line 2: .*{message}"):
        BENCHMARK.load("dev", tmp_path)


@pytest.mark.parametrize(
    ("split", "records", "unanswerable", "passages", "digest"),
    [
        ("train", 100, 0, 1890, "940a56062206"),
        ("dev", 140, 0, 2290, "39f297fa8500"),
        ("dev_full", 20, 9, 400, "ad57dbb13ed6"),
    ],
)
def test_the_real_files(data_dir, split, records, unanswerable, passages, digest):
    dataset = BENCHMARK.load(split, data_dir)
    assert dataset.notes["records"] == records == len(dataset.questions) + unanswerable
    assert (dataset.notes.get("unanswerable", 0), dataset.digest[:12]) == (unanswerable, digest)
    hops = Counter(question.metadata["hops"] for question in dataset.questions)
    assert set(hops) == {2, 3, 4}
    assert all(int(q.id[0]) == q.metadata["hops"] >= len(q.supporting_titles) > 0 for q in dataset.questions)
    found = list(BENCHMARK.passages(split, data_dir))
    assert len(found) == len({(p.title, p.text) for p in found}) == passages
