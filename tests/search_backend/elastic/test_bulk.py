"""Bulk requests to a real server that goes away, is overloaded, or takes no large ones."""

from __future__ import annotations

import threading

import pytest
from elasticsearch import Elasticsearch

import search_backend
from search_backend import SearchError
from search_backend.elastic.load import load_index
from tests.helpers.search_contract import PASSAGES, ids

pytestmark = pytest.mark.service


def test_a_load_outlives_a_restart_of_the_server(own_server):
    server = own_server()
    passages = [search_backend.Passage(f"p{i:05d}", f"Name{i}", f"words of passage {i} " * 20) for i in range(12_000)]
    restarted = threading.Event()

    def progress(phase, done):
        if phase == "indexing" and not restarted.is_set():
            restarted.set()
            server.kill()
            server.start()

    backend = load_index(server.uri("wiki"), passages, progress=progress)
    assert restarted.is_set()
    assert backend.manifest.passages == 12_000
    assert ids(backend.search(["Name7"], 1)[0]) == ["p00007"]
    backend.close()


def test_requests_that_are_too_large_are_sent_in_parts(own_server):
    server = own_server("http.max_content_length=64kb")
    passages = [search_backend.Passage(f"p{i:03d}", f"Name{i}", f"word{i} " * 600) for i in range(200)]
    backend = load_index(server.uri("wiki"), passages)
    long = " ".join(f"{i}{'x' * 120}" for i in range(100))
    found = backend.search([f"Name{i} {long}" for i in range(50)], 1)  # together 600 kB
    assert ids(hits[0] for hits in found) == [f"p{i:03d}" for i in range(50)]
    with pytest.raises(SearchError, match=r"a document of \d+ bytes is larger than the server takes"):
        load_index(server.uri("large"), [*PASSAGES, search_backend.Passage("x", "X", "word " * 40_000)])
    backend.close()


def test_a_full_write_queue_only_slows_a_load_down(own_server):
    server = own_server("thread_pool.write.queue_size=1", "thread_pool.write.size=1")
    passages = [search_backend.Passage(f"p{i:05d}", f"Name{i}", f"words of passage {i}") for i in range(20_000)]
    loads = [
        threading.Thread(target=lambda n=n: load_index(server.uri(f"wiki-{n}"), passages[n:]).close()) for n in range(3)
    ]
    for load in loads:
        load.start()
    for load in loads:
        load.join()
    with Elasticsearch(f"http://127.0.0.1:{server.port}") as client:
        (node,) = client.nodes.stats(metric="thread_pool")["nodes"].values()
    assert node["thread_pool"]["write"]["rejected"] + node["thread_pool"]["write_coordination"]["rejected"] > 0
    assert [len(search_backend.open(server.uri(f"wiki-{n}")).search(["Name7"], 1)[0]) for n in range(3)] == [1, 1, 1]
