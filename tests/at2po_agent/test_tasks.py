"""``run`` with and without a running loop."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from at2po_agent.tasks import loop_runs, run, run_all, run_pool
from tests.helpers.places import ROOT


async def where() -> tuple[str, int]:
    await asyncio.sleep(0)
    return "done", threading.get_ident()


def test_without_a_loop_it_runs_here() -> None:
    assert run(where()) == ("done", threading.get_ident())
    assert not loop_runs()


def test_inside_a_loop_it_runs_on_a_thread_of_its_own() -> None:
    async def notebook() -> tuple[str, int]:
        assert loop_runs()
        return run(where())

    result, thread = asyncio.run(notebook())
    assert result == "done" and thread != threading.get_ident()


def test_errors_come_back() -> None:
    async def broken() -> None:
        raise ZeroDivisionError("inside")

    async def notebook() -> None:
        run(broken())

    for attempt in (lambda: run(broken()), lambda: asyncio.run(notebook())):
        with pytest.raises(ZeroDivisionError, match="inside"):
            attempt()


INTERRUPTED = """
import asyncio
from at2po_agent.tasks import run

async def forever():
    print("running", flush=True)
    try:
        await asyncio.sleep(600)
    finally:
        print("cancelled", flush=True)

async def notebook():
    run(forever())

# A notebook's loop leaves Ctrl-C to Python, which raises KeyboardInterrupt wherever the main thread is.
loop = asyncio.new_event_loop()
try:
    loop.run_until_complete(notebook())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_inside_a_loop_cancels_the_work() -> None:
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=60)[0].splitlines() == ["cancelled", "interrupted"]
        finally:
            process.kill()


def test_ctrl_c_that_comes_just_before_the_wait_is_noticed() -> None:
    """As is one that another thread receives, which is the same to the wait: nothing interrupts it."""

    async def work() -> None:
        await asyncio.sleep(0.3)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        await asyncio.sleep(20)

    async def notebook() -> None:
        run(work())

    begun, loop = time.monotonic(), asyncio.new_event_loop()
    with closing(loop), pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(notebook())
    assert time.monotonic() - begun < 10


def test_results_come_in_order_whoever_is_first():
    async def after(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    assert asyncio.run(run_all(after(seconds) for seconds in (0.02, 0.0, 0.01))) == [0.02, 0.0, 0.01]


def test_the_first_error_is_raised_bare_and_cancels_the_others():
    cancelled = []

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        asyncio.run(run_all([waits(), fails(), waits()]))
    assert cancelled == [True, True]


def test_a_pool_takes_items_in_order_and_only_so_many_at_a_time():
    running, most, begun, taken = 0, 0, [], []

    def items():
        for item in range(7):
            taken.append(item)
            yield item

    async def work(item: int) -> None:
        nonlocal running, most
        begun.append(item)
        running += 1
        most = max(most, running)
        assert taken == begun  # nothing is taken before a worker is free
        await asyncio.sleep(0.001 * (7 - item))
        running -= 1

    asyncio.run(run_pool(items(), work, at_a_time=3))
    assert (most, begun) == (3, list(range(7)))


def test_an_error_ends_a_pool_before_the_items_that_are_left():
    done = []

    async def work(item: int) -> None:
        if item == 2:
            raise ZeroDivisionError("a bug")
        done.append(item)

    with pytest.raises(ZeroDivisionError, match="a bug"):
        asyncio.run(run_pool(range(100), work, at_a_time=1))
    assert done == [0, 1]
