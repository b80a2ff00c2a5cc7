from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from at2po_agent.commands.main import main
from tests.helpers.servers import free_port


@pytest.fixture
def installed(monkeypatch):
    """As if the package were there, for what is refused before it is imported."""
    if importlib.util.find_spec("openenv") is None:
        found = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: found("json" if name == "openenv" else name)
        )


def test_a_missing_package_is_named(monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "openenv" else found(name))
    assert main(["serve", "-e", "AT2PO-MicroWiki-v0"]) == 2
    assert "pip install 'at2po[openenv]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "name the variable of a token with --token-var"),
        (["--host", "example.org"], "name the variable of a token with --token-var"),
        (["--token-var", "NOT_SET_ANYWHERE"], "'NOT_SET_ANYWHERE' is not set"),
        (["--sessions", "0"], "--sessions must be above 0"),
        (["k"], "k"),
    ],
)
def test_what_is_wrong_is_one_line(installed, capsys, words, said):
    assert main(["serve", "-e", "AT2PO-MicroWiki-v0", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.integration
def test_a_server_is_started_answers_and_ends(tmp_path):
    port = free_port()
    words = [
        "serve",
        "-e",
        "AT2PO-HotpotQA-v0",
        "--split",
        "demo",
        "--port",
        str(port),
        "--token-var",
        "A_TOKEN",
        "k=2",
    ]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "at2po_agent", *words],
            env={**os.environ, "A_TOKEN": "right"},
            stdout=log,
            stderr=log,
        )
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metadata", headers={"Authorization": "Bearer right"})
        for _ in range(600):
            assert server.poll() is None, (tmp_path / "log").read_text()
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    assert b"AT2PO-HotpotQA-v0" in answer.read()
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail("it never answered")
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert "questions of demo at ws://127.0.0.1" in (tmp_path / "log").read_text()
