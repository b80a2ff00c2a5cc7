from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest

from search_backend import CorpusError, EmbeddedIndex, Passage
from search_backend.embedded import build
from tests.helpers.search_contract import PASSAGES, ids
from tests.search_backend.embedded.test_backend import crowd


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_neither_order_nor_memory_changes_what_is_built(tmp_path):
    # 12 MB of texts, of which the smaller bound sorts 8 MB at a time: sorted runs on disk, merged
    passages = [replace(passage, text=f"{passage.text} {'padding ' * 500}") for passage in crowd(3_000)]
    sorted_index = EmbeddedIndex.build(tmp_path / "sorted", sorted(passages, key=lambda p: p.id))
    random.Random(0).shuffle(passages)
    merged = EmbeddedIndex.build(tmp_path / "merged", iter(passages), memory_mb=32)
    assert merged.manifest == sorted_index.manifest
    queries = [f"Name{i} word{i % 97} row" for i in range(50)]
    assert merged.search(queries, 5) == sorted_index.search(queries, 5)


def test_several_threads_build_the_same_index(tmp_path, monkeypatch):
    passages = list(crowd(20_000))
    one = EmbeddedIndex.build(tmp_path / "one", passages)
    monkeypatch.setattr(build, "PARALLEL_FROM", 20_000)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    two = EmbeddedIndex.build(tmp_path / "two", passages)
    assert [len(list((tmp_path / name).glob("*.term"))) for name in ("one", "two")] == [1, 2]
    assert two.manifest == one.manifest
    queries = [f"Name{i} word{i % 97} row" for i in range(0, 20_000, 400)]
    assert two.search(queries, 5) == one.search(queries, 5)


def test_the_digest_is_over_ids_titles_and_texts(tmp_path):
    digests = {
        EmbeddedIndex.build(tmp_path / str(i), [passage]).manifest.corpus_digest
        for i, passage in enumerate(
            [Passage("a", "bc", "d"), Passage("ab", "c", "d"), Passage("a", "b", "cd"), Passage("a", "bc", "e")]
        )
    }
    assert len(digests) == 4


def failing_halfway():
    yield from PASSAGES[:4]
    raise ZeroDivisionError("the source broke")


@pytest.mark.parametrize(
    ("passages", "error", "message"),
    [
        ([], CorpusError, "no passages"),
        ([*PASSAGES, replace(PASSAGES[2], text="Other.")], CorpusError, "'tivaro-1'"),
        ([PASSAGES[0], {"id": "x"}], CorpusError, "item 2 .* dict"),
        ([PASSAGES[0], Passage("", "Nameless", "x")], CorpusError, "passage 2 .*Nameless.* id is empty"),
        ([Passage("x", "t", None)], CorpusError, "passage 1 .*'x'.* text"),
        ([Passage("\ud800", "t", "x")], CorpusError, "passage 1: .*surrogate"),
        (failing_halfway(), ZeroDivisionError, "the source broke"),
    ],
)
def test_bad_passages_leave_nothing(tmp_path, passages, error, message):
    with pytest.raises(error, match=message):
        EmbeddedIndex.build(tmp_path / "index", passages)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    "options", [{"title_boost": 0}, {"title_boost": 1.5}, {"analyzer": "klingon"}, {"memory_mb": 1}]
)
def test_bad_options_are_named_before_anything_is_read(tmp_path, options):
    def unread():
        pytest.fail("the passages were read")
        yield

    with pytest.raises(CorpusError, match=f"({next(iter(options))}|klingon)"):
        EmbeddedIndex.build(tmp_path / "index", unread(), **options)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("content", ["a file", "a directory with something in it"])
def test_what_is_already_there_is_kept(tmp_path, content):
    target = tmp_path / "index"
    if content == "a file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "mine").write_text("mine")
    with pytest.raises(CorpusError, match="already exists"):
        EmbeddedIndex.build(target, PASSAGES)
    assert (target if target.is_file() else target / "mine").read_text() == "mine"
    assert left_in(tmp_path) == ["index"]


def test_an_index_that_appears_meanwhile_is_kept(tmp_path):
    def passages():
        EmbeddedIndex.build(tmp_path / "index", PASSAGES[:2]).close()
        yield from PASSAGES

    with pytest.raises(CorpusError, match="already exists"):
        EmbeddedIndex.build(tmp_path / "index", passages())
    assert EmbeddedIndex.open(tmp_path / "index").manifest.passages == 2
    assert left_in(tmp_path) == ["index"]


def test_a_failing_rename_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CorpusError, match=r"index cannot be written: .*No space left"):
        EmbeddedIndex.build(tmp_path / "index", PASSAGES)
    assert left_in(tmp_path) == []


BUILD = """
import resource, sys
from search_backend import CorpusError, EmbeddedIndex, Passage
import tests.search_backend.embedded.test_backend as t
def passages():
    for i, passage in enumerate(t.crowd(20_000)):
        if i == 10_000:
            print("halfway", flush=True)
            if sys.argv[2] == "hang":
                sys.stdin.read()
        yield passage
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    EmbeddedIndex.build(sys.argv[1], passages())
except CorpusError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path):
    # The limit on a file's size makes the engine's own writes fail, as a full disk does.
    command = [sys.executable, "-c", textwrap.dedent(BUILD), str(tmp_path / "index"), "limit"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert f"the index {tmp_path / 'index'} cannot be written" in done.stdout, done.stderr
    assert left_in(tmp_path) == []


def test_a_killed_build_leaves_no_index_and_the_next_one_sweeps(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(BUILD), str(tmp_path / "index"), "hang"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"halfway\n"
        process.send_signal(signal.SIGKILL)
    (abandoned,) = tmp_path.iterdir()
    assert abandoned.name.startswith(".index.building-")
    EmbeddedIndex.build(tmp_path / "index", PASSAGES).close()
    assert left_in(tmp_path) == sorted([abandoned.name, "index"]), "it might still have been running"
    two_hours_ago = time.time() - 7_200
    for path in (*abandoned.rglob("*"), abandoned):
        os.utime(path, (two_hours_ago, two_hours_ago))
    os.rename(tmp_path / "index", tmp_path / "other")
    EmbeddedIndex.build(tmp_path / "index", PASSAGES).close()
    assert left_in(tmp_path) == ["index", "other"]


def test_progress_is_told_by_phase(tmp_path):
    told = []
    EmbeddedIndex.build(tmp_path / "index", crowd(25_000), progress=lambda phase, done: told.append((phase, done)))
    expected = [(phase, n) for phase in ("reading", "indexing") for n in (10_000, 20_000, 25_000)]
    assert told == expected


def test_an_index_has_the_permissions_of_any_new_file(tmp_path):
    mask = os.umask(0o022)
    try:
        EmbeddedIndex.build(tmp_path / "index", PASSAGES).close()
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "index").stat().st_mode) == 0o755
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "index").iterdir()} == {0o644}


def test_an_empty_directory_is_filled(tmp_path):
    (tmp_path / "index").mkdir()
    index = EmbeddedIndex.build(tmp_path / "index", PASSAGES)
    assert ids(index.search(["Tivaro town"], 1)[0]) == ["tivaro-1"]
