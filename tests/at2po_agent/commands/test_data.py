from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys

import pytest

from at2po_agent.commands.main import main
from at2po_agent.hub import REPOSITORY
from tests.helpers.hub_server import Hub
from tests.helpers.places import ROOT

ROW = {"id": "test_0", "question": "who", "golden_answers": ["me"]}


def run(capsys, *arguments):
    status = main(["data", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_nothing_installed_names_the_three_ways(capsys, tmp_path):
    status, out, _ = run(capsys, "status", "--data-dir", tmp_path)
    assert status == 0
    for way in ("data pull", "data import FILE", "AT2PO_DATA=DIR", "split='demo'"):
        assert way in out


def test_import_then_status(capsys, tmp_path, data_dir):
    source = data_dir / "musique" / "musique_full_v1.0_dev.jsonl"
    status, out, _ = run(capsys, "import", source, data_dir / "popqa" / "popQA.tsv", "--data-dir", tmp_path)
    assert status == 0
    assert out.splitlines()[0] == (
        "musique dev_full: 11 questions (left out: 9 unanswerable), SHA-256 ad57dbb13ed6 → "
        f"{tmp_path}/musique/musique_full_v1.0_dev.jsonl"
    )
    assert (tmp_path / "musique" / source.name).read_bytes() == source.read_bytes()
    status, out, _ = run(capsys, "status", "--data-dir", tmp_path)
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line[:1] == "│"]
    assert rows == [
        ["musique", "dev_full", "11", "", "9 unanswerable", "ad57dbb13ed6", f"musique/{source.name}", "own passages"],
        ["popqa", "test", "700", "1", "", "7d8ae72a4e5d", "popqa/popQA.tsv", "needs --search"],
    ]
    assert "not read" not in out


def test_import_says_when_another_file_is_read_first(capsys, tmp_path, data_dir):
    run(capsys, "import", data_dir / "popqa" / "popQA.tsv", "--data-dir", tmp_path)
    status, out, _ = run(capsys, "import", data_dir / "popqa" / "flashrag_test.jsonl", "--data-dir", tmp_path)
    assert (status, out.strip().endswith(f"; but {tmp_path}/popqa/popQA.tsv comes first and is what is read")) == (
        0,
        True,
    )


@pytest.mark.fault("item 11: a file that another one hides")
def test_status_marks_files_that_another_one_hides(capsys, tmp_path, data_dir):
    for name in ("popqa/popQA.tsv", "popqa/flashrag_test.jsonl", "nq/NQ-open.dev.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(data_dir / name, tmp_path / name)
    (tmp_path / "nq" / "test.jsonl").write_text(json.dumps(ROW))  # what it hides of test is what dev is read from
    (tmp_path / "NQ-open.dev.jsonl").write_text(json.dumps(ROW))
    _, out, _ = run(capsys, "status", "--data-dir", tmp_path)
    assert [line for line in out.splitlines() if "not read" in line] == [
        "not read: NQ-open.dev.jsonl, as nq/NQ-open.dev.jsonl comes first",
        "not read: popqa/flashrag_test.jsonl, as popqa/popQA.tsv comes first",
    ]


def test_duplicates_and_empty_answers_are_reported(capsys, tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [ROW, ROW, {**ROW, "id": "again"}, {**ROW, "id": "empty", "golden_answers": [" "]}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, _ = run(capsys, "import", file, "--as", "nq/test", "--data-dir", tmp_path / "data")
    assert status == 0 and out.startswith(
        "nq test: 2 questions, of which 1 ask what another asks (left out: 1 duplicate ids, 1 empty answers), SHA-256 "
    )
    _, out, _ = run(capsys, "status", "--data-dir", tmp_path / "data")
    (row,) = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line[:1] == "│"]
    assert row[:5] == ["nq", "test", "2", "1", "1 duplicate ids, 1 empty answers"]


def test_what_cannot_be_imported_is_one_line(capsys, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROW))
    status, _, err = run(capsys, "import", file, "--data-dir", tmp_path / "data")
    assert status == 2 and err.count("\n") == 1 and "--as nq/test" in err
    status, _, err = run(capsys, "import", file, "--as", "nq", "--data-dir", tmp_path / "data")
    assert status == 2 and "which split of nq is it? Say so with --as: nq/train, nq/dev, nq/test, nq/oracle" in err
    status, _, err = run(capsys, "import", file, "--as", "squad/dev", "--data-dir", tmp_path / "data")
    assert status == 2 and "no benchmark with files is named 'squad'" in err
    status, _, err = run(capsys, "import", file, file, "--as", "nq/test", "--data-dir", tmp_path / "data")
    assert status == 2 and "--as nq/test names one split: import a single file" in err
    assert not (tmp_path / "data").exists()
    status, out, _ = run(capsys, "import", file, "--as", "nq/test", "--data-dir", tmp_path / "data")
    assert status == 0 and out.startswith("nq test: 1 questions, SHA-256 ")


def test_import_goes_on_past_a_file_that_cannot_be_used(capsys, tmp_path, data_dir):
    withheld = data_dir / "triviaqa" / "triviaqa-rc" / "qa" / "web-test-without-answers.json"
    status, out, err = run(
        capsys, "import", withheld, data_dir / "bamboogle" / "bamboogle.csv", "--data-dir", tmp_path, "--as", "triviaqa"
    )
    assert status == 2 and err.count("not imported: ") == 2 and not out
    status, out, err = run(capsys, "import", withheld, data_dir / "bamboogle" / "bamboogle.csv", "--data-dir", tmp_path)
    assert status == 2 and out.startswith("bamboogle test: 125 questions")
    assert err.startswith(f"not imported: {withheld}: there are no questions to score (records 3, without_answers 3): ")
    assert err.count("\n") == 1


MERGED = [
    {
        "id": f"train_{n}",
        "question": f"{source} {n}?",
        "golden_answers": ["x"],
        "data_source": source,
        "metadata": {"level": None, "context": None},
    }
    for source in ("nq", "hotpotqa")
    for n in range(3)
]


@pytest.mark.fault("M: Search-R1's merged file of two benchmarks")
def test_a_merged_file_is_asked_what_is_wanted_of_it(capsys, tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in MERGED))
    status, out, err = run(capsys, "import", file, "--data-dir", tmp_path / "data")
    assert (status, out) == (2, "") and "no benchmark's layout; say what it is with --as" in err
    for name in ("hotpotqa", "nq"):
        status, out, _ = run(capsys, "import", file, "--as", f"{name}/train", "--data-dir", tmp_path / "data")
        assert status == 0
        assert out.startswith(f"{name} train: 3 questions (left out: 3 rows of other benchmarks), SHA-256 ")
    status, _, err = run(capsys, "import", file, "--as", "musique/train", "--data-dir", tmp_path / "data")
    assert status == 2 and "no questions to score" in err and "data_source names hotpotqa, nq" in err


@pytest.mark.fault("R9: a named pipe to import")
@pytest.mark.timeout(20)
def test_a_pipe_is_refused_and_not_waited_for(capsys, tmp_path):
    os.mkfifo(tmp_path / "train.jsonl")
    for more in ([], ["--as", "nq/train"]):
        status, _, err = run(capsys, "import", tmp_path / "train.jsonl", *more, "--data-dir", tmp_path / "data")
        assert (status, err) == (2, f"not imported: {tmp_path}/train.jsonl: is no regular file\n")


@pytest.mark.fault("item 11: folders, archives and compressed files to import")
@pytest.mark.parametrize("packed", ["folder", "data.tar.gz", "data.zip"])
def test_import_takes_what_a_folder_or_an_archive_holds(capsys, tmp_path, data_dir, packed):
    folder = tmp_path / "folder"
    for name in ("hotpotqa", "bamboogle", "triviaqa"):
        shutil.copytree(data_dir / name, folder / name)
    (folder / "package.json").write_text('{\n "name": "x"\n}')
    if packed == "data.tar.gz":
        shutil.make_archive(str(tmp_path / "data"), "gztar", folder)
    elif packed == "data.zip":
        shutil.make_archive(str(tmp_path / "data"), "zip", folder)
    status, out, err = run(capsys, "import", tmp_path / packed, "--data-dir", tmp_path / "data")
    assert status == 0, err
    assert sorted(line.partition(" questions")[0] for line in out.splitlines()) == [
        "bamboogle test: 125",
        "hotpotqa dev: 140",
        "hotpotqa dev_fullwiki: 350",
        "hotpotqa train: 100",
        "triviaqa dev: 3",
        "triviaqa dev_web: 3",
        "triviaqa dev_wikipedia: 1",
        "triviaqa sample: 1",
        "triviaqa test: 700",
        "triviaqa train: 3",
        "triviaqa train_web: 3",
        "triviaqa train_wikipedia: 1",
    ]
    over = sorted(line.rpartition(packed)[2].partition(": ")[0] for line in err.splitlines())
    rc, unfiltered = "/triviaqa/triviaqa-rc/qa", "/triviaqa/triviaqa-unfiltered"
    assert over == [
        "/package.json, line 1",
        f"{rc}/web-test-without-answers.json",
        f"{rc}/wikipedia-test-without-answers.json",
        f"{unfiltered}/unfiltered-web-test-without-answers.json",
    ]
    assert all(line.startswith("skipped: ") for line in err.splitlines())
    for name in ("bamboogle/bamboogle.csv", "hotpotqa/hotpot_train_v1.1.json"):
        assert (tmp_path / "data" / name).read_bytes() == (data_dir / name).read_bytes()


@pytest.mark.fault("item 11: folders, archives and compressed files to import")
def test_import_takes_a_compressed_file(capsys, tmp_path, data_dir):
    file = tmp_path / "bamboogle.csv.gz"
    file.write_bytes(gzip.compress((data_dir / "bamboogle" / "bamboogle.csv").read_bytes()))
    status, out, _ = run(capsys, "import", file, "--data-dir", tmp_path / "data")
    assert status == 0 and out.startswith("bamboogle test: 125 questions")
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"question": 3}'))
    status, _, err = run(capsys, "import", file, "--as", "nq/test", "--data-dir", tmp_path / "data")
    assert status == 2 and err.startswith(f"not imported: {file}, line 1: field ")


def test_a_folder_without_a_benchmark_in_it_is_an_error(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    status, _, err = run(capsys, "import", tmp_path / "empty", "--data-dir", tmp_path / "data")
    assert (status, err) == (2, f"not imported: {tmp_path}/empty: of 0 data files in it none can be used\n")


def test_a_bad_file_in_a_folder_is_an_error_and_the_others_are_taken(capsys, tmp_path):
    folder = tmp_path / "popqa"
    folder.mkdir()
    (folder / "test.jsonl").write_text(json.dumps(ROW) + "\n" + json.dumps(ROW | {"question": 3}))
    (tmp_path / "nq").mkdir()
    (tmp_path / "nq" / "dev.jsonl").write_text(json.dumps(ROW))
    status, out, err = run(capsys, "import", tmp_path, "--data-dir", tmp_path / "data")
    assert status == 2 and out.startswith("nq dev: 1 questions")
    assert err.startswith(f"not imported: {folder}/test.jsonl, line 2: field 'question'") and err.count("\n") == 1


def test_one_import_never_replaces_what_it_has_just_put_there(capsys, tmp_path):
    """The shards of one split on the Hugging Face hub, for example."""
    folder = tmp_path / "nq"
    folder.mkdir()
    for n in range(2):
        (folder / f"train-0000{n}-of-00002.jsonl").write_text(json.dumps(ROW | {"id": str(n)}))
    for given in ([folder], sorted(folder.iterdir())):
        status, out, err = run(capsys, "import", *given, "--data-dir", tmp_path / "data")
        assert status == 2 and out.count("nq train: 1 questions") == 1
        assert err.count("\n") == 1 and "train.jsonl has just been imported from another file of nq train" in err
    assert json.loads((tmp_path / "data" / "nq" / "NQ-open.train.jsonl").read_text())["id"] == "0"


def test_a_stated_split_takes_of_a_folder_only_what_can_be_of_it(capsys, tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    for name in ("train", "test"):
        (folder / f"{name}.jsonl").write_text(json.dumps(ROW | {"id": name}))
    status, out, err = run(capsys, "import", folder, "--as", "nq/test", "--data-dir", tmp_path / "data")
    assert status == 0 and out.count("\n") == 1 and "train.jsonl: its name does not fit --as nq/test" in err
    assert json.loads((tmp_path / "data" / "nq" / "test.jsonl").read_text())["id"] == "test"


def test_status_goes_on_past_an_unusable_file(capsys, tmp_path):
    for name, text in (("hotpotqa", "[3]"), ("nq", json.dumps(ROW))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text(text)
    status, out, err = run(capsys, "status", "--data-dir", tmp_path)
    assert status == 1 and "nq/train.jsonl" in out
    assert err.startswith("unusable: ") and "hotpotqa/train.jsonl, record 0" in err


def test_pull_names_what_the_collection_has(capsys, tmp_path):
    status, _, err = run(capsys, "pull", "popqa/train", "--data-dir", tmp_path)
    assert status == 2 and "no split 'train' of popqa: it has test" in err


def test_the_command_pulls_from_the_hub_that_the_environment_names(tmp_path):
    hub = Hub()
    try:
        hub.files = {
            f"{REPOSITORY}/{name}.jsonl": (json.dumps(ROW) + "\n").encode()
            for name in ("nq/train", "nq/dev", "nq/test")
        }
        variables = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "AT2PO_DATA": str(tmp_path)}
        command = [sys.executable, "-m", "at2po_agent", "data", "pull", "nq"]
        first, again = (
            subprocess.run(command, capture_output=True, text=True, env=variables, cwd=ROOT) for _ in range(2)
        )
    finally:
        hub.close()
    assert first.returncode == 0, first.stderr
    assert [line.partition(",")[0] for line in first.stdout.splitlines()] == [
        f"nq {split}: 1 questions" for split in ("train", "dev", "test")
    ]
    assert again.stdout.splitlines() == [f"nq {split}: already there" for split in ("train", "dev", "test")]


@pytest.mark.parametrize("arguments", [[], ["import"]])
def test_usage(arguments):
    with pytest.raises(SystemExit):
        main(["data", *arguments])
