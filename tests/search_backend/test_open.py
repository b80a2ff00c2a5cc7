from __future__ import annotations

import uuid

import pytest

import search_backend
from search_backend import CorpusError, EmbeddedIndex, SearchError, Tape
from tests.helpers.search_contract import PASSAGES


def test_an_index_opens_by_its_uri(tmp_path, monkeypatch):
    built = EmbeddedIndex.build(tmp_path / "an index?over=50%25", PASSAGES)
    opened = search_backend.open(f"embedded:{tmp_path}/an index?over=50%25")
    assert opened.manifest == built.manifest
    monkeypatch.setenv("HOME", str(tmp_path))
    assert search_backend.open("EMBEDDED:~/an index?over=50%25").manifest == built.manifest


def test_a_tape_opens_by_its_uri_with_an_index_inside(tmp_path):
    EmbeddedIndex.build(tmp_path / "a & b", PASSAGES).close()
    uri = search_backend.tape_uri(tmp_path / "tape.jsonl", mode="record", over=f"embedded:{tmp_path / 'a & b'}")
    recorded = search_backend.open(uri).search(["Tivaro"], 2)
    replay = search_backend.open(f"tape:{tmp_path}/tape.jsonl?mode=replay")
    assert isinstance(replay, Tape)
    assert replay.search(["Tivaro"], 2) == recorded


def test_replaying_does_not_open_the_recorded_backend(tmp_path):
    Tape(tmp_path / "t", EmbeddedIndex.build(tmp_path / "index", PASSAGES), "record").close()
    uri = search_backend.tape_uri(tmp_path / "t", mode="replay", over="embedded:/nowhere")
    assert search_backend.open(uri).manifest.passages == len(PASSAGES)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("/data/index", "write embedded:/data/index"),
        ("", "not a search URI"),
        ("C:\\index", "write embedded:"),
        ("solr://host/index", "unknown search scheme 'solr'; .* embedded:, .*tape:"),
        ("tape:t.jsonl", "a mode is needed; write tape:FILE"),
        ("tape:t.jsonl?mode=rewind", "a mode is needed"),
        ("tape:t.jsonl?mode=replay&speed=2", "unknown option 'speed'"),
        ("tape:?mode=replay", "names no file"),
        ("tape:t.jsonl?mode=record", "needs the backend"),
        ("tape:t.jsonl?mode=record&over=nonsense", "not a search URI"),
    ],
)
def test_a_wrong_uri_is_one_clear_error(uri, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SearchError, match=message):
        search_backend.open(uri)
    assert list(tmp_path.iterdir()) == []


def test_another_scheme_is_imported_when_it_is_first_opened(tmp_path, monkeypatch):
    own = f"own{uuid.uuid4().hex}"  # schemes stay registered
    monkeypatch.syspath_prepend(tmp_path)
    search_backend.register_scheme(f"{own}-late", f"{own}_backend:connect")
    (tmp_path / f"{own}_backend.py").write_text("def connect(uri):\n    return [uri]\n")
    assert search_backend.open(f"{own}-late://host:1/x?y") == [f"{own}-late://host:1/x?y"]
    search_backend.register_scheme(f"{own}-now", lambda uri: uri.upper())
    assert search_backend.open(f"{own}-now:x") == f"{own}-now:x".upper()
    for taken in ("embedded", f"{own}-now"):
        with pytest.raises(SearchError, match="already registered"):
            search_backend.register_scheme(taken, "x:y")
    with pytest.raises(SearchError, match="not a URI scheme"):
        search_backend.register_scheme("Bad Name", "x:y")


def test_errors_of_what_is_on_disk_pass_through(tmp_path):
    with pytest.raises(CorpusError, match="no index directory"):
        search_backend.open(f"embedded:{tmp_path}/nothing")
    with pytest.raises(CorpusError, match="there is no tape"):
        search_backend.open(f"tape:{tmp_path}/nothing?mode=replay")
