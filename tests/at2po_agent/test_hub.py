from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest
from huggingface_hub import constants

from at2po_agent.hub import REPOSITORY, SPLITS, HubError, pull
from at2po_env.dataset import DataError
from at2po_env.installed import file_source, file_sources
from tests.helpers.hub_server import Hub

ROWS = [{"id": f"test_{n}", "question": f"who is number {n}", "golden_answers": [f"name {n}"]} for n in range(500)]
CONTENT = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    server = Hub()
    server.files = {f"{REPOSITORY}/{name}/{split}.jsonl": CONTENT for name in SPLITS for split in SPLITS[name]}
    server.large = {name for name in server.files if "train" in name or "nq/" in name}
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # the tests' own server is on this machine
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # the hub's client gives 10 MB to disk at a time
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    yield server
    server.close()


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_collection_has_the_seven_benchmarks():
    assert set(SPLITS) == set(file_sources())
    for name, splits in SPLITS.items():
        assert set(splits) <= set(file_source(name).splits)


@pytest.mark.parametrize(("name", "split"), [("nq", "test"), ("bamboogle", "test"), ("hotpotqa", "train")])
def test_a_file_comes_is_read_and_is_what_the_benchmark_reads(hub, tmp_path, name, split):
    placed = pull(file_source(name), split, tmp_path)
    assert placed is not None and placed.read == placed.path == tmp_path / name / f"flashrag_{split}.jsonl"
    assert placed.path.read_bytes() == CONTENT
    assert placed.dataset.digest == hashlib.sha256(CONTENT).hexdigest()
    assert len(file_source(name).load(split, tmp_path).questions) == 500
    assert files(tmp_path) == [f"{name}/flashrag_{split}.jsonl"]


@pytest.mark.parametrize("name", ["nq", "bamboogle"])
def test_what_is_there_is_not_fetched_again_and_what_changed_is(hub, tmp_path, name):
    pull(file_source(name), "test", tmp_path)
    hub.requests.clear()
    assert pull(file_source(name), "test", tmp_path) is None
    assert hub.gets() == []
    hub.files[f"{REPOSITORY}/{name}/test.jsonl"] = CONTENT * 2
    changed = pull(file_source(name), "test", tmp_path)
    assert changed is not None and changed.dataset.notes["duplicate_ids"] == 500


@pytest.mark.parametrize("name", ["nq", "bamboogle"])
@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_file_goes_on_in_a_later_call(hub, tmp_path, name, ranges):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    part = tmp_path / name
    hub.cut_after = 4000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.time.sleep", stop)  # Ctrl-C after the first drop
        with pytest.raises(KeyboardInterrupt):
            pull(file_source(name), "test", tmp_path)
    (partial,) = part.iterdir()
    assert partial.name.startswith(".part-") and partial.read_bytes() == CONTENT[:4000]
    assert file_source(name).find("test", tmp_path) is None
    hub.cut_after, hub.ranges = None, ranges
    hub.requests.clear()
    placed = pull(file_source(name), "test", tmp_path)
    assert placed is not None and placed.path.read_bytes() == CONTENT
    assert [asked for _, asked in hub.gets()] == ["bytes=4000-"]
    assert files(tmp_path) == [f"{name}/flashrag_test.jsonl"]


def test_drops_are_ridden_out_within_a_call(hub, tmp_path):
    hub.cut_after = 20_000
    placed = pull(file_source("nq"), "dev", tmp_path)
    assert placed is not None and placed.path.read_bytes() == CONTENT
    assert [asked for _, asked in hub.gets()] == [None, "bytes=20000-", "bytes=40000-"]


def test_a_hub_that_gives_nothing_keeps_what_came_and_says_how_to_go_on(hub, tmp_path):
    hub.cut_after = 0
    with pytest.raises(HubError) as caught:
        pull(file_source("nq"), "test", tmp_path)
    message = str(caught.value)
    assert message.startswith(f"nq/test.jsonl could not be fetched from {hub.url}: ")
    assert "0 bytes are there already" in message and "import FILE --as nq/test" in message
    assert file_source("nq").find("test", tmp_path) is None


def test_other_bytes_than_promised_are_not_installed(hub, tmp_path):
    hub.lies = set(hub.files)
    for name in ("nq", "popqa"):
        with pytest.raises(HubError, match=r"has the digest [0-9a-f]+, but the hub announced [0-9a-f]+: try again"):
            pull(file_source(name), "test", tmp_path)
    assert files(tmp_path) == []


def test_a_file_that_is_no_benchmark_is_not_installed(hub, tmp_path):
    hub.files[f"{REPOSITORY}/nq/test.jsonl"] = b'{"question": 1}\n'
    with pytest.raises(DataError, match="line 1: field"):
        pull(file_source("nq"), "test", tmp_path)
    assert files(tmp_path) == []


def test_a_missing_file_and_a_missing_hub_are_named(hub, tmp_path, monkeypatch):
    del hub.files[f"{REPOSITORY}/nq/test.jsonl"]
    with pytest.raises(HubError, match=r"nq/test\.jsonl could not be fetched from http://127.*404"):
        pull(file_source("nq"), "test", tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"could not be fetched from http://127\.0\.0\.1:9: .*HF_ENDPOINT"):
        pull(file_source("nq"), "test", tmp_path)
    assert files(tmp_path) == []
