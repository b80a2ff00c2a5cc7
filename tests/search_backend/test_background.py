"""A loop on its own thread."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time

import pytest
import uvloop

from search_backend.background import BackgroundLoop


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


async def thread() -> str:
    return threading.current_thread().name


def test_results_errors_and_cancellation_cross_over() -> None:
    background, left = BackgroundLoop("beside"), threading.Event()

    async def fail() -> None:
        raise LookupError("over there")

    async def stay() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            left.set()

    async def caller() -> None:
        assert await background.wait(thread()) == "beside"
        with pytest.raises(LookupError, match="over there"):
            await background.wait(fail())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(background.wait(stay()), 0.05)

    asyncio.run(caller())
    assert left.wait(5)
    assert background.run(thread()) == background.submit(thread()).result() == "beside"
    background.close()
    background.close()
    assert "beside" not in names()
    with pytest.raises(RuntimeError, match="the event loop beside was closed"):
        background.run(thread())


def test_work_that_waits_for_its_own_loop_stays_on_it() -> None:
    background = BackgroundLoop("nested")

    async def outer() -> str:
        return await background.wait(thread())

    assert background.run(outer()) == "nested"
    background.close()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_work_that_ends_the_program_raises_where_it_is_waited_for(new_loop) -> None:
    background = BackgroundLoop("exiting", new_loop=new_loop)

    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit, match="3"):
        background.run(leave())
    assert background.run(thread()) == "exiting"
    background.close()


class InterruptingLoop(asyncio.SelectorEventLoop):
    """Presses Ctrl-C for its caller in the middle of handing work over."""

    def __init__(self, handed_over: bool) -> None:
        super().__init__()
        self.handed_over, self.armed = handed_over, True

    def call_soon_threadsafe(self, callback, *args, context=None):
        if not self.armed:
            return super().call_soon_threadsafe(callback, *args, context=context)
        self.armed = False
        if self.handed_over:
            super().call_soon_threadsafe(callback, *args, context=context)
            time.sleep(0.05)
        raise KeyboardInterrupt


class Stay:
    """Work that takes a while to tidy up when it is cancelled."""

    def __init__(self) -> None:
        self.begun, self.left = threading.Event(), threading.Event()

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)
            self.left.set()


def test_an_interrupt_while_it_blocks_cancels_the_work_and_waits_for_its_end() -> None:
    background, stay = BackgroundLoop("interrupted"), Stay()

    def interrupt() -> None:
        stay.begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        background.run(stay())
    assert stay.left.is_set()
    background.close()


def test_an_interrupt_while_work_is_handed_over_cancels_it_too() -> None:
    background, stay = BackgroundLoop("interrupted", new_loop=lambda: InterruptingLoop(handed_over=True)), Stay()
    with pytest.raises(KeyboardInterrupt):
        background.run(stay())
    assert stay.begun.is_set()
    assert stay.left.is_set()
    background.close()


def test_work_that_an_interrupt_keeps_from_beginning_is_not_waited_for() -> None:
    background, stay = BackgroundLoop("interrupted", new_loop=lambda: InterruptingLoop(handed_over=False)), Stay()
    with pytest.raises(KeyboardInterrupt):
        background.run(stay())
    assert not stay.begun.is_set()
    assert background.run(thread()) == "interrupted"
    background.close()


def test_closing_ends_calls_with_the_error_of_its_owner_and_then_runs_the_last_work() -> None:
    background = BackgroundLoop("owned", lambda: LookupError("it was closed"))
    events: list[str] = []

    async def stay() -> None:
        events.append("began")
        try:
            await asyncio.sleep(60)
        finally:
            events.append("ended")

    async def last() -> None:
        events.append(threading.current_thread().name)

    stays = background.submit(stay())
    background.run(asyncio.sleep(0))
    background.close(last)
    assert events == ["began", "ended", "owned"]
    for closed in (stays.result, lambda: background.run(stay())):
        with pytest.raises(LookupError, match="it was closed"):
            closed()


def test_an_error_of_the_last_work_arrives_and_the_thread_ends() -> None:
    background = BackgroundLoop("failing")

    async def last() -> None:
        raise LookupError("not released")

    with pytest.raises(LookupError, match="not released"):
        background.close(last)
    assert "failing" not in names()


def test_it_can_be_closed_on_its_own_thread_as_garbage_collection_may() -> None:
    background = BackgroundLoop("self-closing")

    async def close() -> None:
        background.close()

    own = next(one for one in threading.enumerate() if one.name == "self-closing")
    background.submit(close())
    own.join(5)
    assert not own.is_alive()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_closing_in_a_fork_does_nothing() -> None:
    background = BackgroundLoop("parent")
    process = multiprocessing.get_context("fork").Process(target=background.close)
    process.start()
    process.join(20)
    assert process.exitcode == 0
    assert background.run(thread()) == "parent"
    background.close()
