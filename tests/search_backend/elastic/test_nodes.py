"""Answers of a server, or of a proxy in its place, that have no end: bounded in size and in time for both clients."""

from __future__ import annotations

import gzip
import time
from contextlib import closing

import pytest

import search_backend
from search_backend import SearchTimeout, SearchUnavailable
from tests.helpers.faults import peak_memory

BOUNDS = pytest.mark.fault("item 25, R4: bodies of Elasticsearch without an end")


def search(double):
    with closing(double.backend()) as backend:
        backend.search(["Tivaro"], 3)


def open_index(double):
    search_backend.open(double.uri)


def wait_longer(double):
    """So that the size ends what has no end, and not the time, on a machine that is busy."""
    double.uri = double.uri.replace("timeout=5", "timeout=60")


clients = pytest.mark.parametrize("use", [search, open_index])


def zeros():
    while True:
        yield bytes(1 << 16)


def one_by_one():
    while True:
        time.sleep(0.05)
        yield b" "


@BOUNDS
@clients
def test_an_answer_without_an_end_takes_little_memory(elastic_double, use):
    wait_longer(elastic_double)
    elastic_double.body = zeros
    with peak_memory() as peak, pytest.raises(SearchUnavailable, match="longer than 67,108,864 bytes"):
        use(elastic_double)
    assert peak() < 200 << 20


@BOUNDS
@clients
def test_an_error_without_an_end_is_read_in_part(elastic_double, use):
    wait_longer(elastic_double)
    elastic_double.body, elastic_double.refuse = zeros, (500, {})
    with peak_memory() as peak, pytest.raises(SearchUnavailable):
        use(elastic_double)
    assert peak() < 50 << 20


@BOUNDS
@clients
def test_what_is_compressed_counts_as_it_is_unpacked(elastic_double, use):
    wait_longer(elastic_double)
    elastic_double.body, elastic_double.headers = gzip.compress(bytes(1 << 28)), {"Content-Encoding": "gzip"}
    with peak_memory() as peak, pytest.raises(SearchUnavailable, match="longer than 67,108,864 bytes"):
        use(elastic_double)
    assert peak() < 200 << 20


@BOUNDS
@clients
def test_an_answer_byte_by_byte_has_a_deadline(elastic_double, use):
    elastic_double.body = one_by_one
    elastic_double.uri = elastic_double.uri.replace("timeout=5", "timeout=0.5")
    start = time.monotonic()
    with pytest.raises((SearchTimeout, SearchUnavailable), match=r"no answer within 0\.5 s"):
        use(elastic_double)
    assert time.monotonic() - start < 5


@pytest.mark.fault("item 23: bad answers of Elasticsearch")
@clients
@pytest.mark.parametrize("body", [b"{", b"[" * 5000, b"\xff\xfe"])
def test_what_is_no_json_or_only_says_that_it_is_compressed_is_a_bad_answer(elastic_double, use, body):
    elastic_double.body = body
    with pytest.raises(SearchUnavailable, match="not an answer of Elasticsearch"):
        use(elastic_double)
    elastic_double.body, elastic_double.headers = b"not compressed", {"Content-Encoding": "gzip"}
    with pytest.raises(SearchUnavailable, match="no answer that can be read"):
        use(elastic_double)


def test_an_answer_that_is_too_long_is_asked_for_in_parts(elastic_double):
    long = "x" * (3 << 20)
    whole = elastic_double.item()
    for hit in whole["hits"]["hits"]:
        hit["_source"]["text"] = long
    elastic_double.item = lambda: whole  # 9 MiB, so 16 of them are too long
    wait_longer(elastic_double)
    with closing(elastic_double.backend()) as backend:
        answers = backend.search([f"Tivaro {i}" for i in range(16)], 3)
    assert all(len(hits) == 3 for hits in answers)
