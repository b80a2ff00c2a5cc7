"""What goes wrong between us and a real server: every failure has its type, and none looks like an empty result."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

import search_backend
from search_backend import SearchError, SearchTimeout, SearchUnavailable
from search_backend.elastic.load import load_index
from tests.helpers.search_contract import PASSAGES, ids
from tests.helpers.servers import free_port, nginx

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def host(elasticsearch_host):
    load_index(f"elasticsearch://{elasticsearch_host}/test-faults", PASSAGES).close()
    return elasticsearch_host


def test_a_server_that_is_killed_is_unavailable_and_answers_again_when_it_is_back(own_server):
    server = own_server()
    backend = load_index(server.uri("wiki", retries=1), PASSAGES)
    expected = backend.search(["Tivaro"], 2)
    assert expected[0]
    server.kill()
    with pytest.raises(SearchUnavailable, match="no connection"):
        backend.search(["Tivaro"], 2)
    with pytest.raises(SearchUnavailable, match="no connection"):
        asyncio.run(backend.asearch(["Tivaro"], 2))
    server.start()
    assert backend.search(["Tivaro"], 2) == expected
    backend.close()


def test_a_search_outlasts_a_short_outage_by_its_retries(own_server):
    server = own_server()
    backend = load_index(server.uri("wiki", retries=9), PASSAGES)
    server.kill()
    again = threading.Timer(0.5, server.start)
    again.start()
    assert ids(backend.search(["Tivaro town"], 1)[0]) == ["tivaro-1"]
    again.join()
    backend.close()


def test_a_paused_server_is_a_timeout_and_does_not_block_others(own_server):
    server = own_server()
    backend = load_index(server.uri("wiki", timeout=1), PASSAGES)
    os.kill(server.process(), signal.SIGSTOP)
    try:
        start = time.monotonic()
        with pytest.raises(SearchTimeout, match="no answer within 1 s"):
            backend.search(["Tivaro"], 2)
        assert time.monotonic() - start < 4
    finally:
        os.kill(server.process(), signal.SIGCONT)
    assert backend.search(["Tivaro"], 2)[0]
    backend.close()


@pytest.fixture
def proxy(tmp_path, host):
    """A function that starts nginx in front of the server with the given directives; returns its port."""
    running = []

    def start(directives: str, listen: str = "") -> int:
        port = free_port()
        server = f"server {{ listen 127.0.0.1:{port} {listen}; {directives.replace('BACKEND', f'http://{host}')} }}"
        running.append(nginx(tmp_path, server))
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return port
            except OSError:
                time.sleep(0.05)
        pytest.fail((tmp_path / "error.log").read_text())

    yield start
    for process in running:
        process.terminate()
        process.wait(10)


def test_basic_auth_and_api_keys(proxy, tmp_path, monkeypatch):
    (tmp_path / "users").write_text("me:{PLAIN}hunter2\n")
    key = base64.b64encode(b"id:hunter3").decode()
    allow = f'if ($http_authorization = "ApiKey {key}") {{ rewrite ^ /key$uri last; }}'
    port = proxy(
        f"location / {{ {allow} auth_basic x; auth_basic_user_file {tmp_path}/users; proxy_pass BACKEND; }} "
        "location /key/ { internal; proxy_pass BACKEND/; }"
    )
    uri = f"elasticsearch://127.0.0.1:{port}/test-faults"
    with pytest.raises(SearchError, match=r"HTTP 401.*AT2PO_ES_API_KEY") as caught:
        search_backend.open(uri)
    assert not isinstance(caught.value, SearchUnavailable)
    monkeypatch.setenv("AT2PO_ES_PASSWORD", "wrong-hunter")
    with pytest.raises(SearchError, match="HTTP 401") as caught:
        search_backend.open(f"{uri}?user=me")
    assert "hunter" not in str(caught.value)
    monkeypatch.setenv("AT2PO_ES_PASSWORD", "hunter2")
    backend = search_backend.open(f"{uri}?user=me")
    assert backend.search(["Tivaro"], 1)[0]
    assert "hunter" not in f"{backend.manifest}{backend.__reduce__()}"
    backend.close()
    monkeypatch.delenv("AT2PO_ES_PASSWORD")
    monkeypatch.setenv("AT2PO_ES_API_KEY", key)
    backend = search_backend.open(uri)
    assert backend.search(["Tivaro"], 1)[0]
    backend.close()


def test_tls_is_trusted_with_its_authority_only(proxy, tmp_path):
    assert shutil.which("openssl")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", tmp_path / "key.pem",
         "-out", tmp_path / "ca.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = f"ssl_certificate {tmp_path}/ca.pem; ssl_certificate_key {tmp_path}/key.pem;"
    port = proxy(f"{tls} location / {{ proxy_pass BACKEND; }}", "ssl")
    uri = f"elasticsearch://localhost:{port}/test-faults"
    with pytest.raises(SearchError, match="no trusted TLS connection") as caught:
        search_backend.open(f"{uri}?tls=true")
    assert not isinstance(caught.value, SearchUnavailable)
    backend = search_backend.open(f"{uri}?ca={tmp_path}/ca.pem")
    assert backend.search(["Tivaro"], 1)[0]
    backend.close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, SearchUnavailable), (500, SearchUnavailable), (502, SearchUnavailable), (504, SearchTimeout)],
)
def test_what_a_proxy_answers_for_a_server_has_its_type(proxy, status, kind):
    port = proxy(f"location /_msearch {{ return {status}; }} location ~ /_msearch$ {{ return {status}; }} "
                 "location / { proxy_pass BACKEND; }")  # fmt: skip
    backend = search_backend.open(f"elasticsearch://127.0.0.1:{port}/test-faults?retries=2")
    start = time.monotonic()
    with pytest.raises(kind, match=f"HTTP {status}"):
        backend.search(["Tivaro"], 1)
    assert 0.6 <= time.monotonic() - start < 3  # waited 0.2 s and 0.4 s
    backend.close()


def test_what_is_not_elasticsearch_is_said_at_once(proxy):
    port = proxy("location / { return 200 '{}'; default_type application/json; }")
    with pytest.raises(SearchError, match="not Elasticsearch"):
        search_backend.open(f"elasticsearch://127.0.0.1:{port}/test-faults?wait=0")
