from __future__ import annotations

import json
import os
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
        ["musique", "dev_full", "11", "", "9 unanswerable", "ad57dbb13ed6", "musique/musique_full_v1.0_dev.jsonl"],
        ["popqa", "test", "700", "1", "", "7d8ae72a4e5d", "popqa/popQA.tsv"],
    ]


def test_import_says_when_another_file_is_read_first(capsys, tmp_path, data_dir):
    run(capsys, "import", data_dir / "popqa" / "popQA.tsv", "--data-dir", tmp_path)
    status, out, _ = run(capsys, "import", data_dir / "popqa" / "flashrag_test.jsonl", "--data-dir", tmp_path)
    assert (status, out.strip().endswith(f"; but {tmp_path}/popqa/popQA.tsv comes first and is what is read")) == (
        0,
        True,
    )


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
    assert status == 2 and "--as nq/test names one split: import its file alone" in err
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
    assert err == f"not imported: {withheld}: there are no questions to score (records 3, without_answers 3)\n"


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
