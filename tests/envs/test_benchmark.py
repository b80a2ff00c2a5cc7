from __future__ import annotations

import hashlib
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_env.dataset import DataError, DataNotFound, NoQuestions
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


def merged(*sources, per_source=3):
    """Rows as Search-R1's data script merges them: every source numbers its own from 0."""
    return [
        {
            "id": f"train_{n}",
            "question": f"{source} {n}?",
            "golden_answers": [f"{source} {n}"],
            "data_source": source,
            "metadata": None,
        }
        for source in sources
        for n in range(per_source)
    ]


def search_r1(source, n):
    """A row of Search-R1's Parquet files."""
    row = merged(source, per_source=n + 1)[n]
    return {
        **row,
        "prompt": [{"role": "user", "content": f"Answer: {row['question']}"}],
        "ability": "fact-reasoning",
        "reward_model": {"style": "rule", "ground_truth": {"target": row["golden_answers"]}},
        "extra_info": {"index": n, "split": "train"},
        "metadata": {"level": "hard" if source == "hotpotqa" else None, "context": None},
    }


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    return lines(path, rows)


@pytest.mark.fault("M: Search-R1's merged file of two benchmarks")
@given(
    sources=st.lists(st.sampled_from(READ_FROM_FILES), min_size=1, max_size=12),
    name=st.sampled_from(READ_FROM_FILES),
    spelling=st.sampled_from([str, "searchR1_{}".format, str.upper]),
    parquet=st.booleans(),
)
def test_of_a_merged_file_only_the_benchmarks_own_rows_are_read(tmp_path_factory, sources, name, spelling, parquet):
    """Rows in any order and number, each source counting its ids from 0."""
    counted = dict.fromkeys(sources, 0)
    rows = []
    for source in sources:
        row = search_r1(source, counted[source]) if parquet else merged(source, per_source=counted[source] + 1)[-1]
        rows.append({**row, "data_source": spelling(source)})
        counted[source] += 1
    path = write_rows(tmp_path_factory.mktemp("merged") / ("rows.parquet" if parquet else "rows.jsonl"), rows)
    benchmark = load_benchmark(name)
    split = benchmark.splits[0]
    if name not in counted:
        with pytest.raises(NoQuestions, match=f"rows_of_other_benchmarks {len(rows)}.*names {sorted(counted)[0]}"):
            benchmark.load_file(path, split)
        return
    dataset = benchmark.load_file(path, split)
    assert [q.question for q in dataset.questions] == [f"{name} {n}?" for n in range(counted[name])]
    assert [q.answers for q in dataset.questions] == [(f"{name} {n}",) for n in range(counted[name])]
    assert dataset.notes.get("rows_of_other_benchmarks", 0) == len(rows) - counted[name]
    assert dataset.notes["duplicate_ids"] == 0
    assert benchmark.recognises(path) == (set(counted) == {name})


def test_passages_of_a_merged_file_are_the_benchmarks_own(tmp_path):
    def row(source):
        return merged(source, per_source=1)[0] | {"context": [[source, ["x"]]]}

    write_rows(tmp_path / "hotpotqa" / "train.jsonl", [row("nq"), row("hotpotqa"), row("2wikimultihopqa")])
    assert [p.title for p in load_benchmark("hotpotqa").passages("train", tmp_path)] == ["hotpotqa"]


@pytest.mark.fault("M: Search-R1's merged file of two benchmarks")
def test_nulls_of_a_merged_table_make_no_benchmark_of_a_row(tmp_path):
    """Search-R1's columns of HotpotQA stand in NQ's rows too, empty."""
    rows = [{**ROW, "metadata": {"level": None, "context": None}}]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    assert [name for name in READ_FROM_FILES if load_benchmark(name).recognises(path)] == []


@given(answers=st.lists(st.sampled_from(["x", "y"]), min_size=2, max_size=6))
def test_two_questions_of_one_id_are_an_error_wherever_they_come_from(tmp_path_factory, answers):
    """A merged file need not say where its rows come from."""
    rows = [{"id": "train_0", "question": f"{answer}?", "golden_answers": [answer]} for answer in answers]
    path = write_rows(tmp_path_factory.mktemp("merged") / "rows.jsonl", rows)
    if len(set(answers)) == 1:
        assert load_benchmark("nq").load_file(path, "train").notes["duplicate_ids"] == len(answers) - 1
        return
    with pytest.raises(DataError, match=r"line \d: another question has the id 'train_0' already"):
        load_benchmark("nq").load_file(path, "train")


@given(
    golds=st.lists(st.sampled_from(["<unk>", " <UNK> ", "", "  "]), min_size=1), name=st.sampled_from(READ_FROM_FILES)
)
def test_a_test_set_whose_answers_are_withheld_cannot_be_evaluated(tmp_path_factory, golds, name):
    path = write_rows(
        tmp_path_factory.mktemp("withheld") / "rows.jsonl", [{**ROW, "golden_answers": [*golds, "<unk>"]}]
    )
    benchmark = load_benchmark(name)
    with pytest.raises(NoQuestions, match=r"\(records 1, without_answers 1\): its answers are withheld.* has answers"):
        benchmark.load_file(path, benchmark.splits[0])


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
