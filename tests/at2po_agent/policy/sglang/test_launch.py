"""Servers of the run's own: they start, are waited for, and end with it, whatever ends it."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.engine import LaunchConfig
from at2po_agent.policy.sglang.admin import SglangAdmin
from at2po_agent.policy.sglang.launch import Servers
from tests.helpers.places import ROOT
from tests.helpers.servers import free_port

PROGRAM = ROOT / "tests" / "helpers" / "health_server.py"


def config(*arguments: str, **options) -> LaunchConfig:
    command = "{python} " + f"{PROGRAM} {{port}}"
    return LaunchConfig(command=command, arguments=arguments, port=free_port(also=1), **options)


def gone(url: str, seconds: float = 15.0) -> bool:
    until = time.monotonic() + seconds
    while SglangAdmin(url).healthy(1):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_they_answer_when_they_are_there_and_end_with_close(tmp_path) -> None:
    notes = []
    servers = Servers(config("--slow", "0.5", servers=2), tmp_path, tmp_path / "logs", notes.append)
    try:
        assert all(SglangAdmin(url).healthy() for url in servers.urls) and len(set(servers.urls)) == 2
    finally:
        servers.close()
    assert all(gone(url, 0) for url in servers.urls)
    assert "GET /health" in (tmp_path / "logs" / "server-1.log").read_text()


def test_one_that_dies_at_its_start_says_why_and_takes_the_others_along(tmp_path) -> None:
    wanted = config("--die", "CUDA out of memory on {index}", servers=2)
    with pytest.raises(PolicyError, match=r"ended while it started(.|\n)*server-0.log(.|\n)*CUDA out of memory on 0"):
        Servers(wanted, tmp_path, tmp_path / "logs", lambda text: None)


def test_one_that_never_answers_is_given_up(tmp_path) -> None:
    notes = []
    wanted = config("--slow", "60", start_seconds=0.5)
    with pytest.raises(PolicyError, match=r"did not answer in 0.5 s"):
        Servers(wanted, tmp_path, tmp_path / "logs", notes.append)


def test_a_strangers_server_is_not_taken_for_ours(tmp_path) -> None:
    wanted = config()
    servers = Servers(wanted, tmp_path, tmp_path / "logs", lambda text: None)
    try:
        with pytest.raises(PolicyError, match=r"answers at .* already.*engine.launch.port"):
            Servers(wanted, tmp_path, tmp_path / "more", lambda text: None)
    finally:
        servers.close()


def test_one_that_died_is_started_again(tmp_path) -> None:
    notes = []
    servers = Servers(config(environment={"AT2PO_TEST": "{index}"}), tmp_path, tmp_path / "logs", notes.append)
    try:
        (url,) = servers.urls
        servers.revive(url)
        assert len(notes) == 1  # it lives
        keeper = next(child for child in psutil.Process().children() if url.rpartition(":")[2] in child.cmdline())
        for child in keeper.children():
            assert child.environ()["AT2PO_TEST"] == "0"
            child.kill()
        assert gone(url)
        until = time.monotonic() + 20
        while not SglangAdmin(url).healthy(1):
            servers.revive(url)
            assert time.monotonic() < until
            time.sleep(0.1)
        assert "started again" in notes[-1]
    finally:
        servers.close()
    assert gone(url, 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_they_end_with_a_trainer_that_is_killed(tmp_path, number) -> None:
    wanted = config()
    trainer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal, sys, time; from pathlib import Path; from at2po_agent.policy.sglang.launch import *\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # also where the runner ignores Ctrl-C
            f"Servers(LaunchConfig(command={wanted.command!r}, port={wanted.port}), Path('m'), Path({str(tmp_path)!r}),"
            " lambda text: None); print('up', flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert trainer.stdout is not None and trainer.stdout.readline() == b"up\n"
    trainer.send_signal(number)
    trainer.wait()
    trainer.stdout.close()
    assert gone(f"http://127.0.0.1:{wanted.port}")


def test_a_server_in_the_background_is_ended_by_its_own_command(tmp_path) -> None:
    pidfile = tmp_path / "pid"
    wanted = config()
    command = f"sh -c 'setsid {sys.executable} {PROGRAM} {wanted.port} >/dev/null 2>&1 & echo $! > {pidfile}'"
    servers = Servers(
        LaunchConfig(command=command, stop=f"sh -c 'kill -9 $(cat {pidfile})'", port=wanted.port),
        tmp_path,
        tmp_path / "logs",
        lambda text: None,
    )
    (url,) = servers.urls
    assert SglangAdmin(url).healthy()
    servers.close()
    assert gone(url, 5)
