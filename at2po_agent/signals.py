"""Ending by Ctrl-C or SIGTERM: what is under way is dropped whole, and the caller learns which signal it was."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from at2po_agent import tasks

Result = TypeVar("Result")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """A signal ended the work."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in the main thread; the first of ``SIGNALS`` cancels it, the second ends the process at once.

    Ending at once is safe: what a run writes appears whole or not at all, or is repaired on resume. In another thread,
    and where a loop runs already, signals go where they went before.

    Raises:
        Interrupted: by the first signal, after everything under way was cancelled.
    """
    if tasks.loop_runs() or threading.current_thread() is not threading.main_thread():
        return tasks.run(work)
    received: list[int] = []

    async def guarded() -> Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def on_signal(number: int) -> None:
            if received:
                os.write(2, b"\x1b[?25h" if os.isatty(2) else b"")  # the live display hides the cursor
                os._exit(128 + number)
            received.append(number)
            task.cancel()

        for number in SIGNALS:
            loop.add_signal_handler(number, on_signal, number)
        return await work

    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        if not received:
            raise
        raise Interrupted(received[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
