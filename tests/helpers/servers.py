"""Starts the real Elasticsearch that the service tests need, once a session, and the proxy in front of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import socketserver
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.helpers.places import SHARED

STARTER = SHARED / "elasticsearch" / "elasticsearch"


T = TypeVar("T", bound=socketserver.BaseServer)


@contextlib.contextmanager
def answering(server: T) -> Iterator[T]:
    """A server of the standard library that answers on a thread of its own, until the end of the block."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def free_port(also: int = 100) -> int:
    """A port that nobody listens on, and neither on the one ``also`` above.

    A node of Elasticsearch talks to its like 100 above, and the second of two servers is 1 above the first.
    """
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + also))
            except (OSError, OverflowError):
                continue
            return port


class Server:
    """A node of one's own, to be killed and started again."""

    def __init__(self, data: Path, *settings: str) -> None:
        if not STARTER.is_file():
            pytest.skip(f"no Elasticsearch to start at {STARTER}, which tests of its failures need")
        self.port = free_port()
        self._arguments = ["--port", str(self.port), "--data", str(data), "--heap", "512m"]
        # Otherwise a node that finds a tenth of its disk free, or less, serves no new index.
        always = ("cluster.routing.allocation.disk.threshold_enabled=false",)
        self._arguments += [word for setting in (*always, *settings) for word in ("--set", setting)]
        self._one_at_a_time = threading.Lock()  # a kill that is still at it would take the new node's pid file away
        self.start()

    def start(self) -> None:
        with self._one_at_a_time:
            subprocess.run([STARTER, "start", *self._arguments], check=True, capture_output=True, timeout=120)

    def kill(self) -> None:
        with self._one_at_a_time:
            subprocess.run([STARTER, "kill", "--port", str(self.port)], check=False, capture_output=True, timeout=60)

    def process(self) -> int:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        return int((cache / "at2po" / f"run-{self.port}" / "pid").read_text())

    def uri(self, index: str, **options: object) -> str:
        return f"elasticsearch://127.0.0.1:{self.port}/{index}?" + "&".join(f"{k}={v}" for k, v in options.items())


@pytest.fixture(scope="session")
def elasticsearch_host(tmp_path_factory):
    """HOST:PORT of a server: AT2PO_ES_URL, or one that is started here."""
    if url := os.environ.get("AT2PO_ES_URL"):
        yield url.split("://")[-1].rstrip("/")
        return
    if not STARTER.is_file():
        pytest.skip(f"no Elasticsearch: set AT2PO_ES_URL to one without security (none to start at {STARTER})")
    server = Server(tmp_path_factory.mktemp("elasticsearch"))
    yield f"127.0.0.1:{server.port}"
    server.kill()


@pytest.fixture
def name():
    """A name for an index that no other test has."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def own_server(tmp_path):
    """A function that starts a node of the test's own, with node settings; gone afterwards."""
    made: list[Server] = []

    def start(*settings: str) -> Server:
        made.append(Server(tmp_path / f"node-{len(made)}", *settings))
        return made[-1]

    yield start
    for server in made:
        server.kill()


class SlowProxy:
    """Stands in front of a server and hands its answers on after ``delay`` seconds, which may change meanwhile.

    What ``holds`` of a part of an answer is held until ``go_on`` is set; ``holding`` tells that one is.
    """

    def __init__(self, host: str) -> None:
        self.delay = 0.0
        self.holds: Callable[[bytes], bool] = lambda answer: False
        self.holding, self.go_on = threading.Event(), threading.Event()
        name, _, port = host.rpartition(":")
        self._server = (name, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for source, target, slow in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pump, args=(source, target, slow), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, slow: bool) -> None:
        with contextlib.suppress(OSError), source, target:  # the other direction closed both
            while data := source.recv(1 << 16):
                time.sleep(self.delay * slow)
                if slow and self.holds(data):
                    self.holding.set()
                    self.go_on.wait(60)
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def slow_proxy():
    """A function that puts a ``SlowProxy`` in front of HOST:PORT."""
    made: list[SlowProxy] = []

    def start(host: str) -> SlowProxy:
        made.append(SlowProxy(host))
        return made[-1]

    yield start
    for proxy in made:
        proxy.close()


def nginx(folder: Path, server: str) -> subprocess.Popen[bytes]:
    """Start nginx with one ``server { … }`` block; it runs until it is terminated."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).is_file():
        pytest.skip("nginx is not installed; it stands in front of Elasticsearch in the tests of auth and TLS")
    user = "user root;" if os.getuid() == 0 else ""  # otherwise its workers may not read our files
    (folder / "nginx.conf").write_text(
        f"{user} pid {folder}/nginx.pid; error_log {folder}/error.log; daemon off; worker_processes 1; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; "
        f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; {server} }}\n"
    )
    return subprocess.Popen([program, "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"])
