"""An event loop on a thread of its own, for connections that outlive the loops of their callers."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines for any thread and any event loop; a caller that is cancelled cancels what it waits for.

    Args:
        name: Of the thread.
        closed: Makes the error of calls that ``close`` ends or that come after it. Default: those that it ends are
            cancelled, and later ones raise RuntimeError.
        new_loop: Makes the event loop.
    """

    def __init__(
        self,
        name: str,
        closed: Callable[[], Exception] | None = None,
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self.loop = new_loop()
        self._name, self._closed = name, closed
        self._closing = False
        self._submitting = threading.Lock()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run ``work`` over there; cancelling the future cancels it."""
        with self._submitting:
            self._check_open(work)
            return asyncio.run_coroutine_threadsafe(self._until_closed(work), self.loop)

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` over there and wait for it in the caller's own loop, which may be this one."""
        if threading.current_thread() is self._thread:
            return await work
        return await asyncio.wrap_future(self.submit(work))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` over there and block until it is done; an interrupt cancels it, and waits for its end."""
        begun: list[asyncio.Task[T]] = []
        done = threading.Event()
        handed_over = False

        def begin() -> None:
            begun.append(self.loop.create_task(self._until_closed(work)))
            begun[0].add_done_callback(lambda _: done.set())

        def cancel() -> None:
            if begun:
                begun[0].cancel()
            else:
                work.close()
                done.set()

        try:
            with self._submitting:
                self._check_open(work)
                # Set first: Ctrl-C may come during the hand-over, and ``cancel`` copes with work that never began.
                handed_over = True
                self.loop.call_soon_threadsafe(begin)
            # Not for ever at once: Ctrl-C that comes just before a wait is noticed when it is over.
            while not done.wait(0.5):
                pass
        except BaseException:
            if handed_over:
                self.loop.call_soon_threadsafe(cancel)
                done.wait()
            raise
        if begun[0].cancelled():
            raise CancelledError
        return begun[0].result()

    def close(self, last: Callable[[], Awaitable[None]] | None = None) -> None:
        """Cancel what is under way, run ``last``, and end the thread; nothing the second time.

        Nothing in a fork either, which has no such thread.
        """
        if self._process != os.getpid():
            return
        with self._submitting:
            if self._closing:
                return
            self._closing = True
            ending = asyncio.run_coroutine_threadsafe(_end(last), self.loop)
        ending.add_done_callback(lambda _: self.loop.call_soon_threadsafe(self.loop.stop))
        # Garbage collection may call this on the loop's own thread, which cannot wait for itself.
        if threading.current_thread() is not self._thread:
            self._thread.join()
            ending.result()

    def _check_open(self, work: Coroutine[Any, Any, T]) -> None:
        """Under the lock: without it, work could arrive between the loop's last turn and its end, and wait for ever."""
        if self._closing:
            work.close()
            raise self._closed() if self._closed else RuntimeError(f"the event loop {self._name} was closed")

    async def _until_closed(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        except asyncio.CancelledError:
            if self._closing and self._closed:
                raise self._closed() from None
            raise

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self._run_until_stopped():
                pass
        finally:
            self.loop.close()

    def _run_until_stopped(self) -> bool:
        """False where a task raised what ends a program: that is for whoever waits for it, and the others go on."""
        try:
            self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            return False
        return True


async def _end(last: Callable[[], Awaitable[None]] | None) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    if last is not None:
        await last()
