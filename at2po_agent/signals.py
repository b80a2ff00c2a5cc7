"""Ending by Ctrl-C or SIGTERM: the first signal ends the work in order, the second ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event
from types import FrameType
from typing import Any, TypeVar

from at2po_agent import tasks

Result = TypeVar("Result")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = b"\x1b[?25h"


class Interrupted(Exception):
    """A signal ended the work."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def two_signals(on_first: Callable[[], None]) -> Iterator[list[int]]:
    """Call ``on_first`` at the first of ``SIGNALS``, end the process at the second; yield the signals received.

    Ending at once is safe: what a run writes appears whole or not at all, or is repaired on resume. Only the main
    thread can do this.
    """
    received: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            on_first()
            return
        # A live display hides the cursor, and has no chance to show it again.
        os.write(2, _SHOW_CURSOR if os.isatty(2) else b"")
        os._exit(128 + number)

    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _waking(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let any signal wake the loop; one that comes just before it goes to sleep would be noticed when it wakes up."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        loop.add_reader(reader, reader.recv, 4096)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            loop.remove_reader(reader)


def stopping(stop: Event, say: bool = True) -> AbstractContextManager[list[int]]:
    """Set ``stop`` at the first signal, as ``two_signals`` does; ``say`` announces it on stderr."""

    def on_first() -> None:
        stop.set()
        if say:
            # Not by print: it may be in the middle of another one.
            os.write(2, b"\nstopping after this step, with a checkpoint; once more to end at once\n")

    return two_signals(on_first)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """``asyncio.run``, whose work the first signal cancels, as ``two_signals`` does.

    In another thread than the main one, and where a loop runs already (a notebook), signals go where they went before.

    Raises:
        Interrupted: by the first signal, after everything under way was cancelled.
    """
    if tasks.loop_runs() or threading.current_thread() is not threading.main_thread():
        return tasks.run(work)
    runner = asyncio.Runner()
    loop = runner.get_loop()
    task = loop.create_task(work)

    def cancel() -> None:
        # Through the loop, which may be asleep: this wakes it up.
        if not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)

    with two_signals(cancel) as received, runner, _waking(loop):
        try:
            return loop.run_until_complete(task)
        except asyncio.CancelledError:
            if not received:
                raise
            raise Interrupted(received[0]) from None
