"""Loads into a real server: interrupted, and refused."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

import search_backend
from search_backend import CorpusError, SearchError
from search_backend.elastic.load import load_index
from tests.helpers.search_contract import PASSAGES

pytestmark = pytest.mark.service


def test_an_interrupted_load_goes_on_where_it_was(uri):
    passages = [search_backend.Passage(f"p{i:05d}", f"Name{i}", f"words of passage {i}") for i in range(25_000)]

    def interrupt(phase, done):
        if phase == "indexing" and done == 20_000:
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C

    # A process that was started in the background ignores Ctrl-C, and Python with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        load_index(uri, passages, progress=interrupt)
    with pytest.raises(SearchError, match="no such index"):
        search_backend.open(uri)
    whole = load_index(f"{uri}-whole", passages)
    backend = load_index(uri, reversed(passages))
    assert backend.manifest == whole.manifest
    queries = [f"Name{i} words" for i in range(0, 25_000, 500)]
    assert backend.search(queries, 3) == whole.search(queries, 3)
    backend.close()
    whole.close()


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


@pytest.mark.fault("item 26: an index that is deleted during its load, and created again by bulk")
@pytest.mark.parametrize("held", [b'"shards_acknowledged"', b'"uuid"'])
def test_an_index_that_is_deleted_during_its_load_is_not_sealed(uri, client, elasticsearch_host, slow_proxy, held):
    proxy = slow_proxy(elasticsearch_host)
    proxy.holds = lambda answer: held in answer
    through = uri.replace(elasticsearch_host, f"127.0.0.1:{proxy.port}")
    with ThreadPoolExecutor(1) as thread:
        load = thread.submit(load_index, f"{through}?timeout=30", PASSAGES)
        try:
            assert proxy.holding.wait(20)
            (name,) = client.indices.get(index=f"{uri.rpartition('/')[2]}-*")
            client.indices.delete(index=name)
            proxy.holds = lambda answer: False
        finally:
            proxy.go_on.set()
        with pytest.raises(CorpusError, match=r"deleted while it was loaded|no such index"):
            load.result(60)
    with pytest.raises(SearchError, match="no such index"):
        search_backend.open(uri)
