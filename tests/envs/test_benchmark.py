from __future__ import annotations

import hashlib
import json

import pytest

from at2po_env.dataset import DataError, DataNotFound
from at2po_env.registration import BENCHMARKS, load_benchmark

READ_FROM_FILES = [name for name in BENCHMARKS if name != "microwiki"]
ROW = {"id": "1", "question": "Where?", "golden_answers": ["Here", "there"]}


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", READ_FROM_FILES)
def test_every_benchmark_reads_flashrag_files(tmp_path, name):
    benchmark = load_benchmark(name)
    split = benchmark.splits[0]
    path = lines(tmp_path / name / f"flashrag_{split}.jsonl", [ROW, {**ROW, "id": "2"}])
    dataset = benchmark.load(split, tmp_path)
    assert [(q.id, q.question, q.answers) for q in dataset.questions] == [
        ("1", "Where?", ("Here", "there")),
        ("2", "Where?", ("Here", "there")),
    ]
    assert dataset.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (dataset.name, dataset.split, dataset.notes["repeated_questions"]) == (name, split, 1)


@pytest.mark.parametrize("name", READ_FROM_FILES)
def test_bad_flashrag_records_are_named(tmp_path, name):
    split = load_benchmark(name).splits[0]
    for change, field in (
        ({"golden_answers": "x"}, "golden_answers"),
        ({"question": 1}, "question"),
        ({"id": []}, "id"),
    ):
        lines(tmp_path / name / f"{split}.jsonl", [ROW, {**ROW, **change}])
        with pytest.raises(DataError, match=rf"{split}\.jsonl, line 2: field '{field}'"):
            load_benchmark(name).load(split, tmp_path)


@pytest.mark.parametrize("name", READ_FROM_FILES)
def test_nothing_installed_names_the_three_ways(tmp_path, name):
    benchmark = load_benchmark(name)
    with pytest.raises(DataNotFound) as caught:
        benchmark.load(benchmark.splits[0], tmp_path)
    message = str(caught.value)
    ways = (f"data pull {name}", "https://" if name != "hotpotqa" else "http://", "data import FILE", f"DIR/{name}")
    assert all(way in message for way in ways) and "\n" not in message
    assert benchmark.license in message


def test_a_name_that_says_nothing_counts_in_the_benchmarks_own_folder_only(tmp_path):
    nq, trivia = load_benchmark("nq"), load_benchmark("triviaqa")
    lines(tmp_path / "train.jsonl", [ROW])
    assert nq.find("train", tmp_path) is None
    own = lines(tmp_path / "nq" / "train.jsonl", [ROW])
    assert nq.find("train", tmp_path) == own == nq.find("train", tmp_path / "nq")
    assert trivia.find("train", tmp_path) is None
    official = lines(tmp_path / "NQ-open.train.jsonl", [{"question": "?", "answer": ["x"]}])
    assert nq.find("train", tmp_path) == own
    own.unlink()
    assert nq.find("train", tmp_path) == official


def test_a_file_without_a_question_to_score_says_what_was_left_out(tmp_path):
    path = lines(tmp_path / "nq" / "train.jsonl", [{**ROW, "golden_answers": []}, {**ROW, "golden_answers": [" "]}])
    with pytest.raises(DataError) as caught:
        load_benchmark("nq").load("train", tmp_path)
    assert str(caught.value) == f"{path}: there are no questions to score (records 2, empty_answers 2)"


def test_the_split_is_read_off_a_files_name():
    hotpot, trivia, pop = (load_benchmark(name) for name in ("hotpotqa", "triviaqa", "popqa"))
    assert hotpot.split_of("hotpot_dev_fullwiki_v1.json") == "dev_fullwiki"
    assert hotpot.split_of("validation-00000.jsonl") == "dev"
    assert trivia.split_of("web-train.json") == "train_web"
    assert trivia.split_of("flashrag_test.jsonl") == "test"
    assert pop.split_of("train.jsonl") is None
    assert hotpot.split_of("questions.jsonl") is None


def test_real_files_are_recognised_by_their_own_benchmark_only(data_dir):
    """FlashRAG's TriviaQA has nothing but id, question and golden answers: no benchmark can know it."""
    seen = 0
    for path in sorted(data_dir.rglob("*")):
        folder = path.relative_to(data_dir).parts[0]
        if folder in READ_FROM_FILES and path.suffix in (".json", ".jsonl", ".csv", ".tsv"):
            expected = [] if path.parts[-2:] == ("triviaqa", "flashrag_test.jsonl") else [folder]
            assert [name for name in READ_FROM_FILES if load_benchmark(name).recognises(path)] == expected
            seen += 1
    assert seen == 24
