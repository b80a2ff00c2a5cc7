"""Search-R1 services on the loopback interface: one that answers well or by a script, and one that says any bytes."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.helpers.servers import answering

DOCUMENTS = [
    {"document": {"id": 9, "title": "Grenda", "text": "A village."}, "score": 0.9},
    {"document": {"id": "7", "contents": '"Tivaro"\nA town.'}, "score": 0.5},
    {"document": {"id": "3", "contents": '"Ossel"\nA river.\nLong.'}, "score": 0.5},
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
        self.headers: dict[str, str] = {}  # beside those of every answer
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

    def do_GET(self):
        self._send(*self.server.script.pop(0))

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
        self._send(status, answer)

    def _send(self, status, answer):
        service = self.server
        self.send_response(status)
        for name, value in service.headers.items():
            self.send_header(name, value)
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
def service() -> Iterator[Service]:
    with answering(Service()) as service:
        yield service


@contextlib.contextmanager
def speaking(response: Callable[[], Iterator[bytes]]) -> Iterator[str]:
    """The URI of a server that answers every request with these parts, until the client goes away."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.recv(1 << 16)
            for part in response():
                client.sendall(part)

    def accept() -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = listener.accept()
                threading.Thread(target=answer, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/retrieve"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
