"""The contract, and the agreement with the embedded index, on a real server."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from elasticsearch import Elasticsearch

import search_backend
from search_backend import BadQuery, CorpusError, EmbeddedIndex, SearchUnavailable, read_passages
from search_backend.elastic import link as elastic_link
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


@pytest.fixture
def uri(elasticsearch_host, name):
    return f"elasticsearch://{elasticsearch_host}/{name}"


@pytest.fixture
def client(elasticsearch_host):
    with Elasticsearch(f"http://{elasticsearch_host}") as client:
        yield client


def real_passages(data_dir, files):
    seen = set()
    for file in sorted((data_dir / "corpus").glob(files)):
        for passage in read_passages(file):
            if passage.id not in seen:  # the sample's files overlap
                seen.add(passage.id)
                yield passage


@pytest.mark.parametrize(
    ("analyzer", "shards", "files"), [("standard", 1, "*.jsonl.gz"), ("english", 3, "hotpotqa.jsonl.gz")]
)
def test_it_ranks_as_the_embedded_index_does(data_dir, uri, tmp_path, analyzer, shards, files):
    """Scores agree to 1e-5; where neighbours are as close as that, their order may differ."""
    passages = list(real_passages(data_dir, files))
    records = json.loads((data_dir / "hotpotqa" / "hotpot_dev_distractor_v1.json").read_text())
    queries = [record["question"] for record in records]
    embedded = EmbeddedIndex.build(tmp_path / "index", passages, analyzer=analyzer)
    backend = load_index(uri, passages, analyzer=analyzer, shards=shards)
    assert backend.manifest.corpus_digest == embedded.manifest.corpus_digest
    assert backend.manifest.passages == embedded.manifest.passages == len(passages)
    same = 0
    for ours, theirs in zip(embedded.search(queries, 10), backend.search(queries, 10), strict=True):
        assert [hit.score for hit in theirs] == pytest.approx([hit.score for hit in ours], rel=1e-5)
        same += [hit.passage for hit in ours] == [hit.passage for hit in theirs]
    assert same / len(queries) >= 0.99
    backend.close()


def test_what_is_asked_at_the_same_time_goes_together(uri, client):
    backend = load_index(uri, PASSAGES)
    expected = backend.search(["Ossel river", "Tivaro"], 2)

    async def ask() -> list:
        return await asyncio.gather(*(backend.asearch([("Ossel river", "Tivaro")[i % 2]], 2) for i in range(200)))

    def requests():
        stats = client.nodes.stats(metric="http")["nodes"]
        return sum(
            route["requests"]["count"]
            for node in stats.values()
            for path, route in node["http"].get("routes", {}).items()
            if "_msearch" in path
        )

    before = requests()
    answers = asyncio.run(ask())
    assert answers == [[expected[i % 2]] for i in range(200)]
    assert requests() - before < 20
    backend.close()


def test_a_slow_request_holds_up_no_other_search(uri, monkeypatch):
    backend = load_index(uri, PASSAGES)
    go_on = threading.Event()
    sending = elastic_link.Link._send

    async def slow_for_tivaro(self, batch):
        while any("tivaro" in str(search.body) for search in batch) and not go_on.is_set():
            await asyncio.sleep(0.005)
        await sending(self, batch)

    monkeypatch.setattr(elastic_link.Link, "_send", slow_for_tivaro)
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(backend.search, ["Tivaro"], 1)
        time.sleep(0.05)
        try:
            fast = asyncio.run(asyncio.wait_for(backend.asearch(["quartz"], 1), timeout=5))
            assert not slow.done()
        finally:
            go_on.set()
        assert ids(fast[0]) == ["twin-a"]
        assert ids(slow.result()[0]) == ["tivaro-1"]
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


def test_more_hits_than_the_server_gives_are_refused(uri, client):
    backend = load_index(uri, PASSAGES)
    assert len(backend.search(["Tivaro"], 20_000)[0]) == 2
    manifest = backend.manifest
    larger = type(manifest)(**{**manifest.to_json(), "passages": 50_000})
    with pytest.raises(BadQuery, match="at most 10000"):
        ElasticsearchBackend(parse_address(uri), backend.index, larger).search(["a"], 20_000)
    backend.close()


def test_an_index_that_is_missing_unfinished_or_not_ours_is_one_clear_error(uri, name, client):
    with pytest.raises(CorpusError, match="there is no such index; build it"):
        search_backend.open(uri)
    client.indices.create(index=name)
    with pytest.raises(CorpusError, match=r"not made by at2po.*index build"):
        search_backend.open(uri)
    with pytest.raises(CorpusError, match="an index of this very name is there"):
        load_index(uri, PASSAGES)
    client.indices.delete(index=name)
    backend = load_index(uri, PASSAGES)
    client.indices.put_mapping(index=backend.index, meta={"at2po": {"format": "at2po-elastic/99"}})
    with pytest.raises(CorpusError, match="at2po-elastic/99"):
        search_backend.open(uri)
    client.indices.delete(index=backend.index)
    with pytest.raises(CorpusError, match="HTTP 404: no such index"):
        backend.search(["Tivaro"], 1)
    backend.close()


def test_an_index_made_with_another_mapping_is_refused(uri, name, client):
    backend = load_index(uri, PASSAGES)
    made = client.indices.get(index=backend.index)[backend.index]["mappings"]
    made["properties"]["content"] = {"type": "text"}
    client.indices.delete(index=backend.index)
    client.indices.create(index=name, mappings=made)
    with pytest.raises(CorpusError, match=r"mapping of .* was changed"):
        search_backend.open(uri)
    backend.close()


def test_a_load_into_an_index_whose_mapping_conflicts_names_the_document_and_the_reason(uri, client):
    backend = load_index(uri, PASSAGES)
    made = client.indices.get(index=backend.index)[backend.index]["mappings"]
    made["_meta"]["at2po"]["complete"] = False
    made["properties"]["title"] = {"type": "integer"}
    client.indices.delete(index=backend.index)
    client.indices.create(index=backend.index, mappings=made)
    with pytest.raises(
        CorpusError, match=rf"document \d+ of {backend.index} was refused: .*failed to parse field \[title"
    ):
        load_index(uri, PASSAGES)
    backend.close()


def test_a_server_that_does_not_listen_is_unavailable_after_the_wait():
    start = time.monotonic()
    with pytest.raises(SearchUnavailable, match=r"127\.0\.0\.1:9/wiki: no connection .*waited 0\.5 s"):
        search_backend.open("elasticsearch://127.0.0.1:9/wiki?wait=0.5")
    assert time.monotonic() - start < 5
