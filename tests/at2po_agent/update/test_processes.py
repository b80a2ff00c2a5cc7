"""Several processes are one run: what they share, and what is said where one fails. Whole runs: test_distributed.py."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.update.processes import ONE, EndedElsewhere, Processes, joined
from tests.helpers.gloo import outcomes
from tests.helpers.threads import in_threads


@given(st.integers(0, 50), st.integers(1, 9))
def test_shares_of_things_in_order_cover_them(n: int, count: int) -> None:
    parts = [list(range(n))[Processes(rank, count).share(n)] for rank in range(count)]
    assert [thing for part in parts for thing in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_run_of_one_process_is_the_default_and_asks_nobody() -> None:
    with joined() as processes:
        assert processes == ONE == Processes(0, 1)
    assert ONE.leads and ONE.gather("a") == ["a"] and ONE.lead(lambda: "b") == "b"
    assert list(range(5))[ONE.share(5)] == [0, 1, 2, 3, 4]


def test_work_of_the_first_process_is_done_once_for_all() -> None:
    done: list[int] = []

    def work(processes: Processes) -> str:
        return processes.lead(lambda: done.append(processes.rank) or "result")

    assert in_threads(work, 3) == ["result"] * 3
    assert done == [0]


def in_turns(failing: set[int]) -> list[Any]:
    """What every one of three processes makes of work that fails in some of them."""

    async def work(rank: int) -> int:
        if rank in failing:
            raise KeyError(rank)
        return rank * 10

    return in_threads(lambda processes: asyncio.run(processes.together(work(processes.rank))), 3)


def test_results_of_all_come_by_rank() -> None:
    assert in_turns(set()) == [[0, 10, 20]] * 3


@pytest.mark.parametrize("failing", [{1}, {2}, {1, 2}, {0, 1, 2}])
def test_an_error_ends_all_and_the_first_that_has_one_says_it(failing: set[int]) -> None:
    found = in_turns(failing)
    speaker = min(failing)
    for rank, error in enumerate(found):
        assert type(error) is (KeyError if rank == speaker else EndedElsewhere)


def together_gather(processes: Processes) -> Any:
    """Called in two joined processes, as are the others below."""
    return [processes.rank, processes.leads, processes.gather({"rank": processes.rank})]


def together_fail(processes: Processes) -> Any:
    if processes.rank == 1:
        raise ValueError("no such policy")
    return processes.gather("waits for the other")


def together_killed(processes: Processes) -> Any:
    processes.gather("both are there")
    if processes.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return processes.gather("waits for the other")


@pytest.fixture(scope="module")
def real() -> dict[str, list[Any]]:
    return outcomes(__name__, "together_gather", "together_fail", "together_killed")


def test_joined_processes_know_their_rank_and_exchange_values(real: dict[str, list[Any]]) -> None:
    everything = [{"rank": 0}, {"rank": 1}]
    assert real["together_gather"] == [[0, True, everything], [1, False, everything]]


def test_only_the_process_that_fails_says_why(real: dict[str, list[Any]]) -> None:
    waiting, failing = real["together_fail"]
    assert failing == "ValueError: no such policy"
    assert waiting.startswith("EndedElsewhere")


def test_one_that_is_killed_is_missed_by_the_other(real: dict[str, list[Any]]) -> None:
    waiting, killed = real["together_killed"]
    assert killed is None
    assert re.match(r"ProcessLost: another process of the run is gone, rank 1 \(PID \d+ on .*--resume$", waiting)
