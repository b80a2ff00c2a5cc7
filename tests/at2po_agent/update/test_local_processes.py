"""The command's own processes on one host: one run, which none of them outlives. Whole runs: test_distributed.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import psutil
import pytest

from at2po_agent.update.local_processes import Start, started
from at2po_agent.update.processes import ProcessLost
from tests.helpers.follower import EndsWhileLoaded, die, stay
from tests.helpers.places import ROOT


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def within(seconds: float, reached: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not reached() and time.monotonic() < until:
        time.sleep(0.05)
    return reached()


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("start", get_args(Start))
def test_processes_join_without_the_terminal_and_end_with_the_first(start: Start) -> None:
    with started(3, stay, start=start) as processes:
        pids, sessions = zip(*processes.gather((os.getpid(), os.getsid(0))), strict=True)
        assert (processes.rank, processes.count, pids[0]) == (0, 3, os.getpid())
        assert len({*pids}) == len({*sessions}) == 3 and not any(map(is_gone, pids))
    assert all(map(is_gone, pids[1:]))


def test_a_process_that_ends_before_it_has_joined_is_named() -> None:
    said = r"process 2 of 2 ended while it started \(exit status 7\); processes=1 trains"
    with pytest.raises(ProcessLost, match=said), started(2, EndsWhileLoaded(), start="spawn"):
        pass


def test_a_process_that_dies_is_named() -> None:
    said = r"is gone, rank 1 \(PID \d+ on .*--resume"
    with pytest.raises(ProcessLost, match=said), started(2, die) as processes:
        processes.gather(0)
        processes.gather("nobody answers")


def test_others_end_with_a_first_process_that_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    first = subprocess.Popen([sys.executable, "-m", "tests.helpers.follower", str(file)], cwd=ROOT)
    try:
        assert within(60, lambda: file.exists() and file.read_text() != "")
        second = int(file.read_text())
        assert not is_gone(second)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert within(10, lambda: is_gone(second))


def test_what_may_have_computed_is_not_forked() -> None:
    code = "import sys; from at2po_agent.update.local_processes import best_start\n"
    code += "print(best_start()); sys.modules['torch'] = sys; print(best_start())"  # as after an import of torch
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["fork" if sys.platform == "linux" else "spawn", "spawn"]
