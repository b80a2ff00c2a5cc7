from __future__ import annotations

import multiprocessing
from pathlib import Path

import platformdirs
import pytest

from search_backend import CorpusError, EmbeddedIndex, build_or_open, cache_dir
from tests.helpers.search_contract import PASSAGES


def unread():
    pytest.fail("the passages were read although the index is there")


def build_at_once(directory, barrier, results):
    def passages():
        barrier.wait(20)  # all find nothing, and all build
        return iter(PASSAGES)

    index = build_or_open(directory, passages, expected_key="v1")
    results.put(index.search(["Tivaro town"], 1)[0][0].passage.id)


def test_it_is_built_once_and_opened_after_that(tmp_path):
    first = build_or_open(tmp_path / "a" / "index", lambda: PASSAGES, expected_key="v1")
    again = build_or_open(tmp_path / "a" / "index", unread, expected_key="v1")
    assert again.manifest == first.manifest
    assert build_or_open(tmp_path / "a" / "index", unread, expected_key=None).manifest == first.manifest


@pytest.mark.parametrize("change", [{"expected_key": "v2"}, {"analyzer": "english"}, {"title_boost": 7}])
def test_another_key_or_parameter_replaces_it(tmp_path, change):
    old = build_or_open(tmp_path / "index", lambda: PASSAGES, expected_key="v1")
    expected = old.search(["Tivaro"], 3)
    new = build_or_open(tmp_path / "index", lambda: PASSAGES[:3], **{"expected_key": "v1", **change})
    assert new.manifest.passages == 3
    assert old.search(["Tivaro"], 3) == expected, "who has the old one open keeps it"
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_damaged_one_is_built_again(tmp_path):
    build_or_open(tmp_path / "index", lambda: PASSAGES, expected_key="v1").close()
    next((tmp_path / "index").glob("*.term")).unlink()
    assert build_or_open(tmp_path / "index", lambda: PASSAGES, expected_key="v1").search(["Tivaro"], 1)[0]


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json"])
def test_what_is_not_an_index_is_never_deleted(tmp_path, name):
    (tmp_path / name).write_text('{"name": "my web app"}')
    with pytest.raises(CorpusError, match=r"is not an index|delete"):
        build_or_open(tmp_path, unread, expected_key="v1")
    assert (tmp_path / name).read_text() == '{"name": "my web app"}'


def test_a_failed_build_keeps_the_old_index(tmp_path):
    build_or_open(tmp_path / "index", lambda: PASSAGES, expected_key="v1").close()
    with pytest.raises(CorpusError, match="no passages"):
        build_or_open(tmp_path / "index", lambda: [], expected_key="v2")
    assert EmbeddedIndex.open(tmp_path / "index").manifest.passages == len(PASSAGES)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_processes_that_build_at_once_share_the_winner(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.SimpleQueue()
    processes = [context.Process(target=build_at_once, args=(tmp_path / "index", barrier, results)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [results.get() for _ in processes] == ["tivaro-1"] * 4
    for process in processes:
        process.join(20)
        assert process.exitcode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_the_cache_is_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("AT2PO_CACHE", "~/elsewhere")
    assert cache_dir() == Path.home() / "elsewhere"
    monkeypatch.delenv("AT2PO_CACHE")
    assert cache_dir() == Path(platformdirs.user_cache_dir("at2po", appauthor=False))
