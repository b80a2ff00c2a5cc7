"""A server that answers searches as Elasticsearch does, or as a test's script says, on the loopback interface."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from search_backend import Manifest
from search_backend.elastic.address import parse_address
from search_backend.elastic.backend import ElasticsearchBackend
from tests.helpers.servers import answering

Item = dict[str, Any]
HITS = [
    {"_source": {"id": f"p{i}", "title": f"T{i}", "text": f"text {i}"}, "_score": 3.0 - i, "sort": [3.0 - i, i + 1]}
    for i in range(3)
]
MANIFEST = Manifest("elasticsearch", "0" * 64, 3, "standard", {"max_query_terms": 128, "shards": 1})


def whole_answer() -> Item:
    """The answer to one search, as a server gives it."""
    shards = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}
    hits = json.loads(json.dumps(HITS))
    return {"took": 1, "timed_out": False, "_shards": shards, "hits": {"max_score": 3.0, "hits": hits}, "status": 200}


class ElasticDouble(ThreadingHTTPServer):
    """Answers every search of a batch with ``item()``; ``refuse`` answers every request with one status and body.

    ``body`` is sent in place of every answer, with ``headers`` added.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.item: Callable[[], Item] = whole_answer
        self.refuse: tuple[int, Any] | None = None
        self.body: bytes | Callable[[], Iterator[bytes]] | None = None
        self.headers: dict[str, str] = {}
        self.requests = 0
        super().__init__(("127.0.0.1", 0), _Handler)
        self.uri = f"elasticsearch://127.0.0.1:{self.server_port}/wiki?retries=1&timeout=5&wait=0"

    def backend(self) -> ElasticsearchBackend:
        """A backend that is open already."""
        return ElasticsearchBackend(parse_address(self.uri), "wiki-1", MANIFEST)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ElasticDouble

    def do_GET(self) -> None:
        self._answer(200, {})

    def do_POST(self) -> None:
        lines = self.rfile.read(int(self.headers["Content-Length"])).splitlines()
        self._answer(200, {"took": 1, "responses": [self.server.item() for _ in lines[::2]]})

    def _answer(self, status: int, content: Any) -> None:
        double = self.server
        double.requests += 1
        status, content = double.refuse or (status, content)
        body = json.dumps(content).encode() if double.body is None else double.body
        self.send_response(status)
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Type", "application/vnd.elasticsearch+json;compatible-with=9")
        for name, value in double.headers.items():
            self.send_header(name, value)
        if isinstance(body, bytes):
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        for part in [body] if isinstance(body, bytes) else body():
            self.wfile.write(part)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served() -> Iterator[ElasticDouble]:
    """A double that answers."""
    with answering(ElasticDouble()) as double:
        yield double


@pytest.fixture
def elastic_double() -> Iterator[ElasticDouble]:
    """A double of the test's own."""
    with served() as double:
        yield double
