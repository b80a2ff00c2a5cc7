"""Searches that are under way together, on a real server."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

import search_backend
from search_backend import SearchUnavailable
from search_backend.elastic.load import load_index
from tests.helpers.search_contract import PASSAGES, ids

pytestmark = pytest.mark.service


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


@pytest.fixture
def held(uri, elasticsearch_host, slow_proxy):
    """A backend behind a proxy that holds the answers that have Tivaro in them, and the proxy."""
    load_index(uri, PASSAGES).close()
    proxy = slow_proxy(elasticsearch_host)
    backend = search_backend.open(uri.replace(elasticsearch_host, f"127.0.0.1:{proxy.port}"))
    proxy.holds = lambda answer: b"tivaro-1" in answer
    yield backend, proxy
    proxy.go_on.set()
    backend.close()


def test_a_slow_request_holds_up_no_other_search(held):
    backend, proxy = held
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(backend.search, ["Tivaro"], 1)
        try:
            assert proxy.holding.wait(10)
            fast = asyncio.run(asyncio.wait_for(backend.asearch(["quartz"], 1), timeout=5))
            assert not slow.done()
        finally:
            proxy.go_on.set()
        assert ids(fast[0]) == ["twin-a"]
        assert ids(slow.result()[0]) == ["tivaro-1"]


def test_searches_that_are_under_way_end_when_the_backend_is_closed(held):
    backend, proxy = held
    with ThreadPoolExecutor(2) as threads:
        under_way = [threads.submit(backend.search, ["Tivaro"], k) for k in (1, 2)]
        assert proxy.holding.wait(10)
        backend.close()
        for search in under_way:
            with pytest.raises(SearchUnavailable, match="was closed"):
                search.result(5)
