from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from at2po_agent.atomic_files import DiskError, new_directory, write_bytes, write_text


def full_disk(*args: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "config.yaml"
    write_text(path, "ältere\n")
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(DiskError, match=rf"cannot write {path}: No space left on device \([\d,]+ MB free there\)"):
        write_bytes(path, b"newer")
    assert path.read_text(encoding="utf-8") == "ältere\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced(tmp_path: Path):
    path = tmp_path / "x"
    write_bytes(path, b"1")
    write_bytes(path, b"22")
    assert path.read_bytes() == b"22"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error"), ValueError("bad")])
def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path, fault: BaseException):
    def half_written() -> None:
        with new_directory(tmp_path / "runs" / "new") as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "a").write_text("a")
            assert not (tmp_path / "runs" / "new").exists()
            raise fault

    with pytest.raises(DiskError if isinstance(fault, OSError) else type(fault)):
        half_written()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_directory_replaces_what_a_killed_process_left(tmp_path: Path):
    (tmp_path / ".tmp-new").mkdir()
    (tmp_path / ".tmp-new" / "stale").touch()
    with new_directory(tmp_path / "new") as folder:
        (folder / "fresh").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "fresh"]


def test_a_place_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=r"cannot write .*: File exists"), new_directory(tmp_path / "file" / "new"):
        pass
    with pytest.raises(DiskError, match=r"cannot write .*No such file"):
        write_text(tmp_path / "missing" / "x", "")


def test_the_free_space_that_is_told_is_what_was_there_when_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    measured = shutil.disk_usage

    def measure(path: Path) -> object:
        left = [entry.name for entry in tmp_path.rglob("*")]
        return measured(path)._replace(free=len(left) * 1_000_000)

    monkeypatch.setattr(shutil, "disk_usage", measure)
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(DiskError, match=r"\(1 MB free there\)"):
        write_bytes(tmp_path / "x", b"1")
    with pytest.raises(DiskError, match=r"\(2 MB free there\)"), new_directory(tmp_path / "new") as folder:
        (folder / "file").touch()
    assert list(tmp_path.iterdir()) == []
