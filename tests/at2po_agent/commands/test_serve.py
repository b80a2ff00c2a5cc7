from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from at2po_agent.commands.main import main


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
        (["--port", "70000"], "--port must be from 0 to 65535, got 70000"),
        (["--port", "0", "k"], "override 'k': write it as key=value"),
    ],
)
def test_what_is_wrong_is_one_line(installed, capsys, words, said):
    assert main(["serve", "-e", "AT2PO-MicroWiki-v0", *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_a_port_in_use_is_one_line_and_no_address_is_claimed(installed, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "-e", "AT2PO-MicroWiki-v0", "--port", str(port)]) == 2
    out, err = capsys.readouterr()
    assert f"--port {port}: " in err and err.count("\n") == 1 and out == ""


@pytest.mark.integration
@pytest.mark.parametrize(("ending", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_server_says_its_address_answers_and_ends(ending, status):
    words = ["-e", "AT2PO-HotpotQA-v0", "--split", "demo", "--port", "0", "--token-var", "A_TOKEN", "k=2"]
    server = subprocess.Popen(
        [sys.executable, "-m", "at2po_agent", "serve", *words],
        env={**os.environ, "A_TOKEN": "right"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = server.stdout.readline()
        told = re.fullmatch(r"AT2PO-HotpotQA-v0: \d+ questions of demo at ws(://127.0.0.1:[1-9]\d*)/ws\n", said)
        assert told, said + server.stderr.read()
        request = urllib.request.Request(f"http{told[1]}/metadata", headers={"Authorization": "Bearer right"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert b"AT2PO-HotpotQA-v0" in answer.read()
    finally:
        server.send_signal(ending)
        _, err = server.communicate(timeout=20)
    assert server.returncode == status and "Traceback" not in err
