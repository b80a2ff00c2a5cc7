from __future__ import annotations

import json

import pytest

from at2po_env.dataset import DataError, NoQuestions
from at2po_env.scoring import exact_match
from envs.triviaqa import BENCHMARK

ANSWER = {
    "Value": "Sunset Boulevard",
    "Aliases": ["Sunset Blvd", "Sunset Boulevard"],
    "NormalizedAliases": ["sunset blvd", "west sunset boulevard"],
    "Type": "WikipediaEntity",
}
OFFICIAL = {"Question": "Which musical?", "QuestionId": "tc_33", "Answer": ANSWER}
HUGGING_FACE = {
    "question": "Which musical?",
    "question_id": "tc_33",
    "answer": {
        "value": "Sunset Boulevard",
        "aliases": ANSWER["Aliases"],
        "normalized_aliases": ANSWER["NormalizedAliases"],
    },
    "entity_pages": {"title": []},
}
GOLD = ("Sunset Boulevard", "Sunset Blvd", "sunset blvd", "west sunset boulevard")


def write(tmp_path, name, content):
    path = tmp_path / "triviaqa" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("split", "name"),
    [
        ("dev", "triviaqa-unfiltered/unfiltered-web-dev.json"),
        ("dev_wikipedia", "triviaqa-rc/qa/wikipedia-dev.json"),
        ("dev_wikipedia", "qa/wikipedia-dev.json"),
        ("train_web", "web-train.json"),
    ],
)
def test_the_official_layouts_and_where_they_are_found(tmp_path, split, name):
    write(tmp_path, name, {"Data": [OFFICIAL], "Domain": "Web", "Version": 1.0})
    (question,) = BENCHMARK.load(split, tmp_path).questions
    assert (question.id, question.question, question.answers) == ("tc_33", "Which musical?", GOLD)
    assert exact_match("West Sunset Boulevard!", question.answers) == 1.0


def test_the_hugging_face_layout(tmp_path):
    write(tmp_path, "validation.jsonl", HUGGING_FACE)
    (question,) = BENCHMARK.load("dev", tmp_path).questions
    assert (question.id, question.answers) == ("tc_33", GOLD)


@pytest.mark.fault("item 9: TriviaQA's public test split")
def test_the_public_test_split_has_nothing_to_score(tmp_path):
    answer = {"value": "<unk>", "normalized_value": "<unk>", "aliases": [], "normalized_aliases": []}
    write(tmp_path, "test.jsonl", {**HUGGING_FACE, "answer": answer})
    with pytest.raises(NoQuestions, match=r"test\.jsonl: there are no questions to score .*its answers are withheld"):
        BENCHMARK.load("test", tmp_path)


def test_withheld_answers_are_counted(tmp_path):
    without = {"Question": "?", "QuestionId": "tc_7"}
    write(tmp_path, "web-dev.json", {"Data": [OFFICIAL, without]})
    dataset = BENCHMARK.load("dev_web", tmp_path)
    assert (len(dataset.questions), dataset.notes["without_answers"]) == (1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Answer": "x"}, "field 'Answer' must be an object, got str"),
        ({"Answer": {"Aliases": ["x"]}}, "field 'Answer.Value' must be text, got NoneType"),
        ({"Answer": {**ANSWER, "Aliases": "x"}}, "field 'Answer.Aliases' must be a list, got str"),
        ({"Answer": {**ANSWER, "NormalizedAliases": [1]}}, "field 'Answer.NormalizedAliases' must be text, got int"),
        ({"QuestionId": 7}, "field 'QuestionId' must be text, got int"),
    ],
)
def test_bad_records_are_named(tmp_path, change, message):
    write(tmp_path, "web-dev.json", {"Data": [OFFICIAL, {**OFFICIAL, **change}]})
    with pytest.raises(DataError, match=rf"web-dev\.json, record 1: {message}"):
        BENCHMARK.load("dev_web", tmp_path)


@pytest.mark.parametrize(
    ("split", "count", "digest"),
    [
        ("train", 3, "eac8d02c974d"),
        ("dev", 3, "f738cbdccdc6"),
        ("test", 700, "2ed9b9c1d29e"),
        ("train_web", 3, "a51c8eb76928"),
        ("dev_web", 3, "956979dd4912"),
        ("train_wikipedia", 1, "a431c04dc15d"),
        ("dev_wikipedia", 1, "51a98bf84fee"),
        ("sample", 1, "2f46278e1f4f"),
    ],
)
def test_the_real_files(data_dir, split, count, digest):
    dataset = BENCHMARK.load(split, data_dir)
    assert (len(dataset.questions), dataset.notes["records"], dataset.digest[:12]) == (count, count, digest)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("triviaqa-rc/qa/web-test-without-answers.json", 3),
        ("triviaqa-rc/qa/wikipedia-test-without-answers.json", 1),
        ("triviaqa-unfiltered/unfiltered-web-test-without-answers.json", 3),
    ],
)
def test_the_real_files_without_answers(data_dir, name, count):
    with pytest.raises(DataError, match=rf"no questions to score \(records {count}, without_answers {count}\)"):
        BENCHMARK.load_file(data_dir / "triviaqa" / name, "test")
