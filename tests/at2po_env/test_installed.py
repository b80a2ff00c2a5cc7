from __future__ import annotations

import errno
import json

import pytest

from at2po_env.dataset import DataError
from at2po_env.installed import file_source, file_sources, identify, install, installed

ROW = {"id": "test_0", "question": "who", "golden_answers": ["me"]}


def write(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(ROW if content is None else content) + "\n")
    return path


def test_every_real_file_installs_and_is_what_is_read(data_dir, tmp_path):
    """Each file alone in an empty data directory: recognised, copied byte for byte, and found under its split."""
    files = [path for name in file_sources() for path in sorted((data_dir / name).rglob("*.*"))]
    files = [path for path in files if path.suffix != ".txt" and "without-answers" not in path.name]
    assert len(files) == 21
    for number, path in enumerate(files):
        source, split = identify(path)
        placed = install(path, source, split, tmp_path / str(number))
        assert (source.name, placed.read) == (path.relative_to(data_dir).parts[0], placed.path)
        assert placed.path.read_bytes() == path.read_bytes()
        assert source.load(split, tmp_path / str(number)).digest == placed.dataset.digest
        assert split in [found for _, found, _ in installed(tmp_path / str(number))]


def test_files_without_fields_of_their_own_are_told_by_their_folder(tmp_path):
    for name in ("nq", "triviaqa"):
        source, split = identify(write(tmp_path / name / "copy" / "test.jsonl"))
        assert (source.name, split) == (name, "test")
    with pytest.raises(DataError, match="no benchmark's layout; say what it is with --as"):
        identify(write(tmp_path / "test.jsonl"))


def test_what_is_stated_counts(tmp_path):
    path = write(tmp_path / "nq" / "rows.jsonl")
    assert (identify(path, "triviaqa/dev")[0].name, identify(path, "triviaqa/dev")[1]) == ("triviaqa", "dev")
    for stated in ("triviaqa", "triviaqa/demo", "triviaqa/nothing"):
        with pytest.raises(DataError, match="which split of triviaqa is it"):
            identify(path, stated)


def test_a_name_that_is_not_looked_for_becomes_one_that_is(tmp_path):
    placed = install(write(tmp_path / "rows.jsonl"), file_source("popqa"), "test", tmp_path / "data")
    assert placed.path == tmp_path / "data" / "popqa" / "test.jsonl"
    with pytest.raises(DataError, match=r"popqa test is read from popQA\.tsv.*rename it"):
        install(write(tmp_path / "rows.txt"), file_source("popqa"), "test", tmp_path / "data")


def test_importing_what_is_installed_already_keeps_it(tmp_path):
    path = write(tmp_path / "popqa" / "test.jsonl")
    assert install(path, file_source("popqa"), "test", tmp_path).path == path
    assert json.loads(path.read_text()) == ROW


def test_a_bad_file_installs_nothing(tmp_path):
    write(tmp_path / "data" / "popqa" / "test.jsonl")
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1: field 'question'"):
        install(write(tmp_path / "rows.jsonl", {**ROW, "question": 3}), file_source("popqa"), "test", tmp_path / "data")
    assert json.loads((tmp_path / "data" / "popqa" / "test.jsonl").read_text()) == ROW


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    old = write(tmp_path / "data" / "popqa" / "test.jsonl")
    before = old.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("at2po_env.installed.os.fsync", full)
    with pytest.raises(DataError, match=r"cannot write .*test\.jsonl: No space left"):
        install(write(tmp_path / "rows.jsonl", {**ROW, "id": "x"}), file_source("popqa"), "test", tmp_path / "data")
    assert list(old.parent.iterdir()) == [old] and old.read_bytes() == before


def test_the_demo_is_never_listed_as_installed(tmp_path):
    assert list(installed(tmp_path)) == []
