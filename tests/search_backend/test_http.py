from __future__ import annotations

import asyncio
import json
import multiprocessing
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import search_backend
from search_backend import BadQuery, Passage, SearchError, SearchTimeout, SearchUnavailable
from search_backend.http import CONNECTIONS

DOCUMENTS = [
    {"document": {"id": "7", "contents": '"Tivaro"\nA town.'}, "score": 0.5},
    {"document": {"id": "3", "contents": '"Ossel"\nA river.\nLong.'}, "score": 0.5},
    {"document": {"id": 9, "title": "Grenda", "text": "A village."}, "score": 0.9},
]


class Service(ThreadingHTTPServer):
    """A Search-R1 service on the loopback interface: gives DOCUMENTS, or what ``script`` says first."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        self.script: list[tuple[int, bytes]] = []
        self.asked: list[dict] = []
        self.accepted = 0  # connections
        self.at_once = self.most_at_once = 0  # requests
        self.delay = self.delay_per_byte = 0.0
        self.counting = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server_port}/retrieve"

    def get_request(self):
        accepted = super().get_request()
        self.accepted += 1
        return accepted

    def handle_error(self, request, client_address):
        pass  # a client that went away


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        service = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        service.asked.append(body)
        with service.counting:
            service.at_once += 1
            service.most_at_once = max(service.most_at_once, service.at_once)
        time.sleep(service.delay)
        answer = json.dumps({"result": [DOCUMENTS[: body["topk"]] for _ in body["queries"]]}).encode()
        status, answer = service.script.pop(0) if service.script else (200, answer)
        with service.counting:
            service.at_once -= 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if not service.delay_per_byte:
            self.wfile.write(answer)
            return
        for i in range(len(answer)):
            self.wfile.write(answer[i : i + 1])
            time.sleep(service.delay_per_byte)

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    with Service() as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        yield service
        service.shutdown()
        thread.join()


@pytest.fixture
def backend(service):
    backend = search_backend.open(service.uri)
    yield backend
    backend.close()


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


@pytest.mark.parametrize(
    "answer", [b"<html>", b"{}", b'{"result": []}', b'{"result": [[{"document": {"id": "1"}, "score": 1}]]}', b"[1]"]
)
def test_another_answer_is_an_error_and_not_an_empty_result(service, answer):
    service.script = [(200, answer)]
    with pytest.raises(SearchError, match="not an answer of a Search-R1 service"):
        search_backend.open(service.uri).search(["Tivaro"], 1)


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


def test_a_search_that_is_under_way_ends_when_the_backend_is_closed(service, backend):
    service.delay = 2.0
    with ThreadPoolExecutor(1) as thread:
        under_way = thread.submit(backend.search, ["Tivaro"], 1)
        while not service.asked:
            time.sleep(0.01)
        start = time.monotonic()
        backend.close()
        with pytest.raises(SearchUnavailable, match="was closed"):
            under_way.result()
        assert time.monotonic() - start < 1.5
    assert "search-http" not in [thread.name for thread in threading.enumerate()]


def test_a_service_that_moved_is_not_followed(service, backend):
    service.script = [(307, b"")]
    with pytest.raises(SearchError, match="HTTP 307: Temporary Redirect"):
        backend.search(["Tivaro"], 1)


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
