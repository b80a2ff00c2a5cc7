from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from at2po_env import unpacking
from at2po_env.dataset import DataError
from at2po_env.unpacking import data_files

FILES = {
    "a/train.jsonl": b"one\n",
    "b/c/dev.json": b"[]",
    "test.csv": b"x,y\n",
    "README.md": b"no data",
    "a/.x.json": b"3",
}
FOUND = {name: content for name, content in FILES.items() if name not in ("README.md", "a/.x.json")}


def as_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def as_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def as_plain_tar(path: Path, files: dict[str, bytes]) -> Path:
    return as_tar(path, files, "w")


def as_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def contents(path: Path) -> dict[str, bytes]:
    return {file.origin.relative_to(path).as_posix(): file.path.read_bytes() for file in data_files(path)}


@pytest.mark.parametrize("pack", [as_zip, as_tar, as_plain_tar, as_folder])
def test_what_a_folder_or_an_archive_holds(tmp_path, pack):
    assert contents(pack(tmp_path / "packed", FILES)) == FOUND


def test_files_keep_their_names_and_are_gone_afterwards(tmp_path):
    files = data_files(as_zip(tmp_path / "f.zip", FILES))
    first = next(files).path
    assert first.name == "train.jsonl"
    assert [file.path.name for file in files] == ["dev.json", "test.csv"]
    assert not first.parent.exists()


def test_a_file_is_itself_and_a_compressed_one_what_is_in_it(tmp_path):
    plain = tmp_path / "dev.jsonl"
    plain.write_bytes(b"x\n")
    assert [(file.path, file.origin) for file in data_files(plain)] == [(plain, plain)]
    packed = tmp_path / "dev.jsonl.gz"
    packed.write_bytes(gzip.compress(b"x\n"))
    ((name, origin, content),) = [(f.path.name, f.origin, f.path.read_bytes()) for f in data_files(packed)]
    assert (name, origin, content) == ("dev.jsonl", packed, b"x\n")


def test_what_a_folder_holds_is_unpacked_too(tmp_path):
    as_zip(tmp_path / "nq.zip", {"test.jsonl": b"1"})
    (tmp_path / "dev.json.gz").write_bytes(gzip.compress(b"2"))
    assert contents(tmp_path) == {"dev.json.gz": b"2", "nq.zip/test.jsonl": b"1"}


@pytest.mark.timeout(20)
def test_pipes_devices_and_links_to_nowhere_are_passed_over(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    (tmp_path / "nowhere.json").symlink_to(tmp_path / "not there")
    (tmp_path / "round").symlink_to(tmp_path)
    (tmp_path / "real.json").write_bytes(b"[]")
    assert contents(tmp_path) == {"real.json": b"[]"}
    assert [file.path for file in data_files(tmp_path / "pipe.json")] == [tmp_path / "pipe.json"]  # for its reader


@pytest.mark.timeout(20)
def test_members_that_are_no_regular_files_are_passed_over(tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_bytes(b"secret")
    with tarfile.open(tmp_path / "f.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo("x.json")
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as zipped:
        link = zipfile.ZipInfo("x.json")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, str(secret))
    assert contents(tmp_path / "f.tar") == contents(tmp_path / "f.zip") == {}


parts = st.sampled_from(["..", ".", "", "/", "~", "a", "a.json", "..json", "C:", "\\..\\x.json", "x" * 300 + ".json"])
names = st.lists(parts, min_size=1, max_size=6).map("/".join) | st.text(min_size=1, max_size=8).map("{}.json".format)


@settings(max_examples=150)
@given(names=st.lists(names, min_size=1, max_size=4), pack=st.sampled_from([as_zip, as_tar]))
def test_nothing_is_written_outside(tmp_path_factory, names, pack):
    base = tmp_path_factory.mktemp("base")
    temporary = base / "temporary"
    temporary.mkdir()
    try:
        path = pack(base / "f", {name.encode(errors="ignore").decode(): b"x" for name in names})
    except (ValueError, OSError, IndexError):  # no archive can have such a name
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(temporary))
        try:
            for file in data_files(path):
                assert file.path.parent.parent == temporary and file.path.read_bytes() == b"x"
        except DataError as error:
            assert str(error).startswith(str(path))
    assert sorted(base.rglob("*")) == [path, temporary]


@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_archive_is_one_error_or_is_read(tmp_path_factory, data):
    pack = data.draw(st.sampled_from([as_zip, as_tar, as_plain_tar]))
    path = pack(tmp_path_factory.getbasetemp() / "damaged", FILES)
    content = bytearray(path.read_bytes())
    for at, byte in data.draw(
        st.dictionaries(st.integers(4, len(content) - 1), st.integers(0, 255), max_size=5)
    ).items():
        content[at] = byte
    path.write_bytes(content[: data.draw(st.integers(4, len(content)))])
    try:
        for file in data_files(path):
            file.path.read_bytes()
    except DataError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


@pytest.mark.parametrize("name", ["x.json", "passed-over.txt"])
@pytest.mark.parametrize("pack", [as_tar, as_plain_tar])
def test_an_archive_that_is_too_large_is_refused_while_it_is_read(tmp_path, monkeypatch, pack, name):
    monkeypatch.setattr(unpacking, "MAX_UNPACKED", 1 << 20)
    path = pack(tmp_path / "f", {name: b"\0" * (2 << 20)})
    with pytest.raises(DataError, match=rf"{path}: holds more than 1 MB; unpack it"):
        contents(path)


def test_a_zip_or_gzip_bomb_is_refused_while_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MAX_UNPACKED", 1 << 20)
    as_zip(tmp_path / "f.zip", {"a.json": b"\0" * (600 << 10), "b.json": b"\0" * (600 << 10)})
    (tmp_path / "f.json.gz").write_bytes(gzip.compress(b"\0" * (2 << 20)))
    for name in ("f.zip", "f.json.gz"):
        with pytest.raises(DataError, match="holds more than 1 MB"):
            list(data_files(tmp_path / name))


def test_a_header_of_gigabytes_is_not_read(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 7 << 30
    path = tmp_path / "f.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.USTAR_FORMAT)))
    with pytest.raises(DataError, match="holds more than"):
        list(data_files(path))


def test_an_encrypted_archive_is_named(tmp_path):
    path = as_zip(tmp_path / "f.zip", {"a.json": b"x"})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the local header's flag, and the one in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{path}: cannot be unpacked: .*encrypted"):
        list(data_files(path))
