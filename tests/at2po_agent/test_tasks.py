"""``run`` with and without a running loop."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading

import pytest

from at2po_agent.tasks import loop_runs, run
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
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0].splitlines() == ["cancelled", "interrupted"]
