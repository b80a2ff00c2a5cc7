from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import search_backend
from search_backend import BadQuery, Passage, SearchError, SearchTimeout, SearchUnavailable

DOCUMENTS = [
    {"document": {"id": "7", "contents": '"Tivaro"\nA town.'}, "score": 0.5},
    {"document": {"id": "3", "contents": '"Ossel"\nA river.\nLong.'}, "score": 0.5},
    {"document": {"id": 9, "title": "Grenda", "text": "A village."}, "score": 0.9},
]


class Service(ThreadingHTTPServer):
    """A Search-R1 service on the loopback interface: gives DOCUMENTS, or what ``script`` says first."""

    daemon_threads = True

    def __init__(self):
        self.script: list[tuple[int, bytes]] = []
        self.asked: list[dict] = []
        self.delay = 0.0
        super().__init__(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server_port}/retrieve"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        time.sleep(self.server.delay)
        answer = json.dumps({"result": [DOCUMENTS[: body["topk"]] for _ in body["queries"]]}).encode()
        status, answer = self.server.script.pop(0) if self.server.script else (200, answer)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

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


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
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


def test_a_slow_service_is_a_timeout(service):
    service.delay = 0.6
    with pytest.raises(SearchTimeout, match=r"no answer within 0\.2 s"):
        search_backend.open(f"{service.uri}?timeout=0.2").search(["Tivaro"], 1)


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
