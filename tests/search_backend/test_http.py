from __future__ import annotations

import asyncio
import gzip
import json
import math
import multiprocessing
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import search_backend
from search_backend import BadAnswer, BadQuery, Passage, SearchError, SearchTimeout, SearchUnavailable
from search_backend.http import CONNECTIONS
from search_backend.outside import Unusable
from search_backend.search_r1 import read_hits, read_results
from tests.helpers.faults import peak_memory
from tests.helpers.hostile_json import with_one_part_replaced
from tests.helpers.search_service import DOCUMENTS, speaking


@pytest.fixture
def backend(service):
    backend = search_backend.open(service.uri)
    yield backend
    backend.close()


def fails(uri, error, message):
    """Open the service, search once, expect the error, and return it."""
    with closing(search_backend.open(uri)) as backend, pytest.raises(error, match=message) as caught:
        backend.search(["Tivaro"], 1)
    return caught.value


def ask_at_once(backend, count):
    async def ask():
        return await asyncio.gather(*(backend.asearch([f"Tivaro {i}"], 1) for i in range(count)))

    return asyncio.run(ask())


def test_what_is_sent_and_how_it_is_read(service):
    backend = search_backend.open(service.uri)
    answers = backend.search(["Tivaro", "", "Ossel", "Tivaro", "?!"], 3)
    assert service.asked == [{"queries": ["Tivaro", "Ossel"], "topk": 3, "return_scores": True}]
    found = [(hit.passage, hit.score) for hit in answers[0]]
    assert found == [  # best first, ties by id
        (Passage("9", "Grenda", "A village."), 0.9),
        (Passage("3", "Ossel", "A river.\nLong."), 0.5),
        (Passage("7", "Tivaro", "A town."), 0.5),
    ]
    assert answers == [answers[0], [], answers[0], answers[0], []]
    assert asyncio.run(backend.asearch(["Tivaro"], 3)) == [answers[0]]
    assert pickle.loads(pickle.dumps(backend)).search(["Tivaro"], 3) == [answers[0]]


def test_the_manifest_names_the_service(service):
    assert search_backend.open(service.uri).manifest.parameters["url"] == service.uri
    other = search_backend.open("http://127.0.0.1:1/retrieve")
    assert other.manifest.digest != search_backend.open(service.uri).manifest.digest


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_an_overloaded_service_is_asked_again(service, status):
    service.script = [(status, b"later")]
    assert search_backend.open(service.uri).search(["Tivaro"], 1)[0]
    assert len(service.asked) == 2
    service.script = [(status, b"later")] * 2
    kind = SearchTimeout if status == 504 else SearchUnavailable
    with pytest.raises(kind, match=f"HTTP {status}: later"):
        search_backend.open(f"{service.uri}?retries=1").search(["Tivaro"], 1)


def test_a_refused_request_is_not_sent_again(service):
    service.script = [(422, b"no field 'topk'")]
    with pytest.raises(SearchError, match="HTTP 422: no field 'topk'") as caught:
        search_backend.open(service.uri).search(["Tivaro"], 1)
    assert not isinstance(caught.value, SearchUnavailable)
    assert len(service.asked) == 1


ANOTHER = [b"<html>", b"{}", b'{"result": []}', b'{"result": [7]}', b"[1]", b'{"result": ' + b"[" * 3000]
NO_HITS = [
    b'{"result": [[{"document": {"id": "1"}, "score": 1}]]}',
    b'{"result": [[{"document": {"id": "1", "contents": null}, "score": 1}]]}',
    b'{"result": [[{"document": {"id": "1", "text": "a"}, "score": true}]]}',
    b'{"result": [[{"document": {"id": [], "text": "a"}, "score": 1}]]}',
    b'{"result": [[{"document": {"text": "a"}, "score": 1}, {"document": {"text": "a"}}]]}',
]
BAD = [
    *NO_HITS,
    *ANOTHER,
    b'{"result": [[{"document": {"text": "a"}, "score": NaN}]]}',
    b'{"result": [[{"document": {"text": "a"}, "score": 1e400}]]}',
    b'{"result": [[{"document": {"text": "a"}, "score": 1' + b"0" * 400 + b"}]]}",
    b"\xff\xfe",
]
BAD_ANSWERS = pytest.mark.fault("item 23: bad answers of a search service")


@BAD_ANSWERS
@pytest.mark.parametrize("answer", BAD, ids=lambda answer: answer[:60].decode("ascii", "replace"))
def test_a_bad_answer_is_asked_for_again_and_then_the_error_of_this_search(service, answer):
    backend = search_backend.open(f"{service.uri}?retries=1")
    assert backend.search(["Tivaro"], 1)[0]
    service.script = [(200, answer)]
    assert backend.search(["Tivaro"], 1)[0]
    service.script = [(200, answer)] * 2
    with pytest.raises(BadAnswer, match="not an answer of a Search-R1 service"):
        backend.search(["Tivaro"], 1)
    assert backend.search(["Tivaro"], 1)[0]
    backend.close()


@pytest.mark.parametrize("answer", ANOTHER)
def test_who_never_answered_as_a_service_is_none(service, answer):
    service.script = [(200, answer)] * 2
    error = fails(f"{service.uri}?retries=1", SearchError, "not an answer of a Search-R1 service")
    assert not isinstance(error, SearchUnavailable)


@BAD_ANSWERS
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("status", [200, 404, 500])
def test_what_only_says_that_it_is_compressed_is_a_bad_answer(service, status, encoding):
    service.headers = {"Content-Encoding": encoding}
    service.script = [(status, b"not compressed")] * 2
    fails(f"{service.uri}?retries=1", BadAnswer, f"no answer that can be read .*{encoding}")


@BAD_ANSWERS
@settings(max_examples=60)
@given(
    response=st.one_of(
        st.binary(max_size=60),
        st.builds(b"HTTP/1.1 %d OK\r\n%b\r\n%b".__mod__, st.tuples(st.integers(), st.binary(), st.binary())),
        st.builds(
            lambda name, value, body: b"HTTP/1.1 200 OK\r\n%b: %b\r\n\r\n%b" % (name, value, body),
            st.sampled_from([b"Content-Length", b"Transfer-Encoding", b"Content-Encoding", b"Content-Type", b"Date"]),
            st.one_of(st.binary(max_size=9), st.sampled_from([b"chunked", b"gzip", b"br", b"zstd", b"-1", b"9" * 30])),
            st.binary(max_size=60),
        ),
    )
)
def test_whatever_bytes_come_are_an_error_of_ours(response):
    with speaking(lambda: iter([response])) as uri:
        fails(f"{uri}?retries=0&timeout=2", SearchError, "http")


@BAD_ANSWERS
@example({"result": [[{"document": {"id": "\ud800", "text": "\udfff"}, "score": 1}]]})
@given(with_one_part_replaced({"result": [DOCUMENTS]}))
def test_whatever_a_part_of_the_answer_is_the_hits_are_sound_or_there_is_an_error_of_ours(answer):
    try:
        (entries,) = read_results(json.dumps(answer).encode(), 1)
        hits = read_hits(entries)
    except Unusable:
        return
    for hit in hits:
        assert math.isfinite(hit.score) and hit.passage.text.strip()
        f"{hit.passage.id}{hit.passage.title}{hit.passage.text}".encode()


BOUNDS = pytest.mark.fault("item 25, R4: bodies of a search service without an end")


def endless(head: bytes, part: bytes):
    """A response that goes on for as long as somebody reads it."""

    def parts():
        yield head
        while True:
            yield part

    return parts


@BOUNDS
def test_an_answer_without_an_end_is_a_bad_answer_that_takes_little_memory():
    with speaking(endless(b"HTTP/1.1 200 OK\r\n\r\n", bytes(1 << 16))) as uri, peak_memory() as peak:
        fails(f"{uri}?retries=0&timeout=60", BadAnswer, "longer than 67,108,864 bytes")
    assert peak() < 200 << 20


@BOUNDS
def test_an_error_without_an_end_is_read_in_part_and_at_once():
    start = time.monotonic()
    with speaking(endless(b"HTTP/1.1 500 Oops\r\n\r\n", b"sorry " * 1000)) as uri, peak_memory() as peak:
        fails(f"{uri}?retries=0&timeout=60", SearchUnavailable, "HTTP 500: sorry sorry")
    assert peak() < 50 << 20
    assert time.monotonic() - start < 10


@BOUNDS
def test_what_is_compressed_counts_as_it_is_unpacked(service):
    service.headers = {"Content-Encoding": "gzip"}
    service.script = [(200, gzip.compress(bytes(1 << 29)))]
    with peak_memory() as peak:
        fails(f"{service.uri}?retries=0&timeout=60", BadAnswer, "longer than 67,108,864 bytes")
    assert peak() < 200 << 20


@BOUNDS
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 500 Oops\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "])
def test_an_answer_byte_by_byte_has_a_deadline(head):
    def parts():
        yield head
        while True:
            time.sleep(0.05)
            yield b"x"

    start = time.monotonic()
    with speaking(parts) as uri:
        fails(f"{uri}?retries=0&timeout=0.5", SearchTimeout, r"no answer within 0\.5 s")
    assert time.monotonic() - start < 3


def test_searches_of_all_kinds_use_one_connection(service, backend):
    for i in range(5):
        backend.search([f"Tivaro {i}"], 1)
        asyncio.run(backend.asearch([f"Tivaro {i}"], 1))
        with ThreadPoolExecutor(1) as thread:
            thread.submit(backend.search, [f"Ossel {i}"], 1).result()
    service.script = [(503, b"later"), (422, b"no")]
    with pytest.raises(SearchError, match="HTTP 422"):
        backend.search(["refused"], 1)
    assert backend.search(["Tivaro"], 1)[0]
    assert (len(service.asked), service.accepted) == (18, 1)


def test_concurrent_searches_are_under_way_together_up_to_a_bound_and_take_turns(service):
    service.delay = 0.5
    # Together the searches take longer than the timeout of one, which does not count what a search waits for its turn.
    backend = search_backend.open(f"{service.uri}?timeout=1.4")
    answers = ask_at_once(backend, 3 * CONNECTIONS)
    assert all(len(hits) == 1 for (hits,) in answers)
    assert CONNECTIONS / 2 < service.most_at_once <= CONNECTIONS
    assert service.accepted <= CONNECTIONS
    backend.close()


def test_one_slow_search_holds_up_no_other(service, backend):
    service.delay = 0.5

    async def ask():
        slow = asyncio.ensure_future(backend.asearch(["slow"], 1))
        while not service.asked:
            await asyncio.sleep(0.01)
        service.delay = 0.0
        await backend.asearch(["fast"], 1)
        assert not slow.done()
        return await slow

    assert asyncio.run(ask())[0]


def test_a_cancelled_search_leaves_the_others_alone(service, backend):
    service.delay = 0.2

    async def ask():
        given_up, other = (asyncio.ensure_future(backend.asearch([query], 1)) for query in ("one", "other"))
        await asyncio.sleep(0.05)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        return await other

    assert asyncio.run(ask())[0]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_makes_its_own_connections_and_leaves_those_of_its_parent(service, backend):
    expected = backend.search(["Tivaro"], 2)

    def in_fork():
        assert backend.search(["Tivaro"], 2) == expected
        backend.close()

    processes = [multiprocessing.get_context("fork").Process(target=in_fork) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0, 0]
    assert backend.search(["Tivaro"], 2) == expected
    assert service.accepted == 3


def test_a_slow_service_is_a_timeout(service):
    service.delay = 0.6
    with pytest.raises(SearchTimeout, match=r"no answer within 0\.2 s"):
        search_backend.open(f"{service.uri}?timeout=0.2").search(["Tivaro"], 1)
    assert len(service.asked) == 1  # not asked again: it would take as long


def test_an_answer_that_trickles_in_is_a_timeout_too(service):
    service.delay_per_byte = 0.05
    start = time.monotonic()
    with pytest.raises(SearchTimeout, match=r"no answer within 0\.3 s"):
        search_backend.open(f"{service.uri}?timeout=0.3").search(["Tivaro"], 1)
    assert time.monotonic() - start < 2


def test_a_search_that_is_under_way_ends_when_the_backend_is_closed(service):
    service.delay = 2.0
    others = threading.enumerate()
    backend = search_backend.open(service.uri)
    with ThreadPoolExecutor(1) as thread:
        under_way = thread.submit(backend.search, ["Tivaro"], 1)
        while not service.asked:
            time.sleep(0.01)
        start = time.monotonic()
        backend.close()
        with pytest.raises(SearchUnavailable, match="was closed"):
            under_way.result()
        assert time.monotonic() - start < 1.5
    assert not [thread for thread in threading.enumerate() if thread.name == "search-http" and thread not in others]


@pytest.mark.fault("item 28: redirects are not followed")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_service_that_moved_is_not_followed(service, backend, status):
    service.script = [(status, b"")]
    with pytest.raises(SearchError, match=f"HTTP {status}: "):
        backend.search(["Tivaro"], 1)
    service.script = [(status, b"")]
    service.headers = {"Location": f"http://u:pw@127.0.0.1:{service.server_port}/new?key=pw"}
    with pytest.raises(SearchError, match=rf"moved to http://127.0.0.1:{service.server_port}/new, give") as caught:
        backend.search(["Tivaro"], 1)
    assert len(service.asked) == 2 and "pw" not in str(caught.value)


def test_nobody_listening_is_unavailable():
    with pytest.raises(SearchUnavailable, match="no connection"):
        search_backend.open("http://127.0.0.1:9/retrieve?retries=0").search(["Tivaro"], 1)


def test_wrong_requests_and_a_closed_backend(service):
    backend = search_backend.open(service.uri)
    with pytest.raises(BadQuery):
        backend.search(["Tivaro"], 0)
    backend.close()
    backend.close()
    with pytest.raises(SearchUnavailable, match="closed"):
        backend.search(["Tivaro"], 1)
    assert service.asked == []


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http:retrieve", "write http://HOST:PORT/retrieve"),
        ("http://me:hunter2@host/retrieve", "without user and password"),
        ("http://host/retrieve?retries=x", "are numbers"),
        ("http://host/retrieve?speed=1", "nothing else"),
    ],
)
def test_a_wrong_uri_is_one_clear_error(uri, message):
    with pytest.raises(SearchError, match=message) as caught:
        search_backend.open(uri)
    assert "hunter2" not in str(caught.value)
