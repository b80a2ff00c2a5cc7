"""The contract, and the agreement with the embedded index, on a real server."""

from __future__ import annotations

import asyncio
import json
import time
import uuid

import pytest

import search_backend
from search_backend import BadQuery, EmbeddedIndex, Passage, SearchUnavailable, read_passages
from search_backend.elastic.address import parse_address
from search_backend.elastic.backend import ElasticsearchBackend
from search_backend.elastic.load import load_index
from tests.helpers.search_contract import PASSAGES, SearchBackendContract, ids

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def shared_backend(elasticsearch_host):
    """One for all tests of the contract: none changes it."""
    backend = load_index(f"elasticsearch://{elasticsearch_host}/test-{uuid.uuid4().hex}", PASSAGES)
    yield backend
    backend.close()


class TestContract(SearchBackendContract):
    @pytest.fixture
    def backend(self, shared_backend):
        return shared_backend

    @pytest.fixture
    def make_backend(self, elasticsearch_host, name):
        made = []

        def make(passages):
            made.append(load_index(f"elasticsearch://{elasticsearch_host}/{name}-{len(made)}", passages))
            return made[-1]

        yield make
        for backend in made:
            backend.close()

    def test_asynchronous_searches_leave_the_event_loop_free(self, backend):
        async def count_ticks() -> int:
            tasks = [asyncio.ensure_future(backend.asearch([f"Tivaro {i}"] * 20, 5)) for i in range(50)]
            ticks = 0
            while not all(task.done() for task in tasks):
                await asyncio.sleep(0.001)
                ticks += 1
            await asyncio.gather(*tasks)
            return ticks

        assert asyncio.run(count_ticks()) > 5


def real_passages(data_dir, files):
    seen = set()
    for file in sorted((data_dir / "corpus").glob(files)):
        for passage in read_passages(file):
            if passage.id not in seen:  # the sample's files overlap
                seen.add(passage.id)
                yield passage


@pytest.mark.parametrize(
    ("analyzer", "shards", "files"),
    [
        ("standard", 1, "*.jsonl.gz"),
        ("english", 3, "hotpotqa.jsonl.gz"),
        ("multilingual", 1, "hotpotqa.jsonl.gz"),
    ],
)
def test_it_ranks_as_the_embedded_index_does(data_dir, uri, tmp_path, analyzer, shards, files):
    """Scores agree to 1e-5; where neighbours are as close as that, their order may differ."""
    passages = list(real_passages(data_dir, files))
    records = json.loads((data_dir / "hotpotqa" / "hotpot_dev_distractor_v1.json").read_text())
    queries = [record["question"] for record in records]
    embedded = EmbeddedIndex.build(tmp_path / "index", passages, analyzer=analyzer)
    backend = load_index(f"{uri}?timeout=120", passages, analyzer=analyzer, shards=shards)
    assert backend.manifest.corpus_digest == embedded.manifest.corpus_digest
    assert backend.manifest.passages == embedded.manifest.passages == len(passages)
    same = 0
    for ours, theirs in zip(embedded.search(queries, 10), backend.search(queries, 10), strict=True):
        assert [hit.score for hit in theirs] == pytest.approx([hit.score for hit in ours], rel=1e-5)
        same += [hit.passage for hit in ours] == [hit.passage for hit in theirs]
    assert same / len(queries) >= 0.99
    backend.close()


@pytest.mark.fault("S: words of scripts without spaces, and accents")
@pytest.mark.parametrize("analyzer", ["standard", "multilingual"])
def test_every_character_of_unicode_is_searched_as_in_the_embedded_index(uri, tmp_path, analyzer):
    """Each passage has some characters, as words and as one run; each query has those of one passage."""
    characters = [chr(code) for code in range(0x80, 0x32000) if not 0xD800 <= code < 0xE000]
    texts = ["".join(characters[i : i + 16]) for i in range(0, len(characters), 16)]
    passages = [Passage(f"p{i:05d}", text, f"{' '.join(text)} A{text[0]}b") for i, text in enumerate(texts)]
    embedded = EmbeddedIndex.build(tmp_path / "index", passages, analyzer=analyzer)
    backend = load_index(f"{uri}?timeout=120", passages, analyzer=analyzer)
    queries = [text[::3] + " " + " ".join(text[::5]) for text in texts]
    some_found = 0
    for ours, theirs in zip(embedded.search(queries, 5), backend.search(queries, 5), strict=True):
        assert [hit.score for hit in theirs] == pytest.approx([hit.score for hit in ours], rel=1e-5)
        some_found += bool(ours)
    assert some_found > len(texts) / 2
    backend.close()


def test_a_swap_of_the_alias_does_not_change_a_running_backend(uri):
    old = load_index(uri, PASSAGES)
    new = load_index(uri, PASSAGES[:3])
    assert old.index != new.index
    assert search_backend.open(uri).manifest == new.manifest
    assert ids(old.search(["quartz"], 1)[0]) == ["twin-a"]
    assert new.search(["quartz"], 1) == [[]]
    again = load_index(uri, PASSAGES)
    assert again.index == old.index
    assert search_backend.open(uri).manifest == old.manifest
    for backend in (old, new, again):
        backend.close()


def test_more_hits_than_the_server_gives_are_refused(uri):
    backend = load_index(uri, PASSAGES)
    assert len(backend.search(["Tivaro"], 20_000)[0]) == 2
    manifest = backend.manifest
    larger = type(manifest)(**{**manifest.to_json(), "passages": 50_000})
    with pytest.raises(BadQuery, match="at most 10000"):
        ElasticsearchBackend(parse_address(uri), backend.index, larger).search(["a"], 20_000)
    backend.close()


def test_a_server_that_does_not_listen_is_unavailable_after_the_wait():
    start = time.monotonic()
    with pytest.raises(SearchUnavailable, match=r"127\.0\.0\.1:9/wiki: no connection .*waited 0\.5 s"):
        search_backend.open("elasticsearch://127.0.0.1:9/wiki?wait=0.5")
    assert time.monotonic() - start < 5
