"""The command's own processes on one host: one run, which none of them outlives. Whole runs: test_distributed.py."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from at2po_agent.update.local_processes import Followers
from at2po_agent.update.processes import ONE, ProcessLost
from tests.helpers.follower import led
from tests.helpers.places import ROOT


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where followers find tests.helpers
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def within(seconds: float, reached: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not reached() and time.monotonic() < until:
        time.sleep(0.05)
    return reached()


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_processes_join_and_the_others_end_with_the_first() -> None:
    with Followers(3, led("wait")) as followers, followers.joined() as processes:
        pids = processes.gather(os.getpid())
        assert (processes.rank, processes.count, pids[0]) == (0, 3, os.getpid())
        assert len({*pids}) == 3 and all(psutil.pid_exists(pid) for pid in pids)
    assert all(is_gone(pid) for pid in pids[1:])


def test_a_process_that_ends_while_it_loads_is_named() -> None:
    said = r"process 1 of 2.* ended while it was loading \(exit status 7\).*=1 trains"
    with Followers(2, led("break")) as followers, pytest.raises(ProcessLost, match=said), followers.joined():
        pass


def test_a_process_that_dies_is_named() -> None:
    said = r"is gone, rank 1 \(PID \d+ on .*--resume"
    with Followers(2, led("die")) as followers, pytest.raises(ProcessLost, match=said), followers.joined() as processes:
        processes.gather(0)
        processes.gather("nobody answers")


def test_others_end_with_a_first_process_that_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    first = subprocess.Popen([*led("lead"), "0", str(file)])
    try:
        assert within(60, lambda: file.exists() and file.read_text() != "")
        second = int(file.read_text())
        assert not is_gone(second)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert within(10, lambda: is_gone(second))


def test_ctrl_c_does_not_reach_the_others() -> None:
    with Followers(2, led("wait")) as followers, followers.joined() as processes:
        (second,) = processes.gather(os.getpid())[1:]
        assert os.getsid(second) != os.getsid(0)


def test_there_are_no_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with Followers(2, led("wait")) as followers, followers.joined() as processes:
        assert processes == ONE
