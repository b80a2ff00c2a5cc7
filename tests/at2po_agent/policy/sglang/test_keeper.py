"""A server ends with the pipe of whoever asked for it. Real processes; what is behind launch is in test_launch.py."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

KEEPER = [sys.executable, "-m", "at2po_agent.policy.sglang.keeper"]


def keep(*words: str, keeper: list[str] = KEEPER) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*keeper, *words], stdin=subprocess.PIPE)


def leave(process: subprocess.Popen[bytes]) -> int:
    """Close the pipe, as the end of a trainer does however it ends."""
    assert process.stdin is not None
    process.stdin.close()
    return process.wait(10)


def appears(path: Path) -> str:
    until = time.monotonic() + 10
    while not (path.is_file() and path.read_text().endswith("\n")):
        assert time.monotonic() < until
        time.sleep(0.02)
    return path.read_text()


def gone(pid: int) -> bool:
    """Within a second, as whoever adopts the process may take a moment to bury it."""
    until = time.monotonic() + 1
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize(("command", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 128 + 9)])
def test_the_status_is_that_of_the_command(command: str, status: int) -> None:
    process = keep("sh", "-c", command)
    assert process.wait(10) == status
    leave(process)


def test_the_whole_group_ends_when_the_pipe_closes(tmp_path: Path) -> None:
    process = keep("sh", "-c", f"sleep 60 & echo $$ $! > {tmp_path / 'pids'}; wait")
    server, worker = map(int, appears(tmp_path / "pids").split())
    assert process.poll() is None
    assert leave(process) == 128 + signal.SIGTERM
    assert gone(server) and gone(worker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_group_ends_with_a_keeper_that_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    process = keep("sh", "-c", f"echo $$ > {tmp_path / 'pid'}; exec sleep 60")
    server = int(appears(tmp_path / "pid"))
    process.send_signal(number)
    assert process.wait(10) == 128 + number
    leave(process)
    assert gone(server)


def test_a_server_that_does_not_listen_is_killed_after_the_grace(tmp_path: Path) -> None:
    program = (
        "import sys; from at2po_agent.policy.sglang import keeper; keeper.GRACE_S = 0.3\n"
        "sys.exit(keeper.main(sys.argv[1:]))"
    )
    deaf = f"trap '' TERM; echo $$ > {tmp_path / 'pid'}; while true; do sleep 0.05; done"
    process = keep("sh", "-c", deaf, keeper=[sys.executable, "-c", program])
    server = int(appears(tmp_path / "pid"))
    assert leave(process) == 128 + signal.SIGKILL
    assert gone(server)


def test_a_server_in_the_background_has_a_command_that_ends_it(tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    process = keep("--stop", "sh", "-c", f"echo yes > {stopped}", "--", "sh", "-c", f"echo up > {tmp_path / 'up'}")
    appears(tmp_path / "up")
    time.sleep(0.5)
    assert process.poll() is None and not stopped.exists()  # the command is over, its server is not
    assert leave(process) == 0
    assert stopped.read_text() == "yes\n"
