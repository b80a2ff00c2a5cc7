"""Coroutines that run together, and coroutines that run from synchronous code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def run_all(work: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run coroutines at the same time and return their results in order.

    The first error cancels the others and is raised as it is, not inside an exception group.
    """
    coroutines = list(work)
    if len(coroutines) == 1:  # no task of its own
        return [await coroutines[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in coroutines]
    except BaseExceptionGroup as errors:
        # The others were only cancelled, or failed for the same reason.
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def run_pool(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], at_a_time: int) -> None:
    """Do ``work`` on every item, in their order and ``at_a_time`` at the same time; errors as of ``run_all``.

    An item is taken when a worker is free for it, so memory does not grow with their number.
    """
    left = iter(items)

    async def worker() -> None:
        for item in left:
            await work(item)

    await run_all(worker() for _ in range(at_a_time))


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end and return its result: ``asyncio.run`` that also works inside a running loop.

    Where a loop runs in this thread already (a notebook), the work gets a thread and a loop of its own, and this thread
    waits for it. Ctrl-C cancels the work.
    """
    return _run_beside(work) if loop_runs() else asyncio.run(work)


def loop_runs() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_beside(work: Coroutine[Any, Any, Result]) -> Result:
    runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    loop, done = runner.get_loop(), Future[Result]()
    task = loop.create_task(work)

    def finish() -> None:
        with runner:
            try:
                done.set_result(loop.run_until_complete(task))
            except BaseException as error:
                done.set_exception(error)

    thread = threading.Thread(target=finish, name="at2po-run")
    try:
        thread.start()
        # Not for ever at once: Ctrl-C that comes just before a wait is noticed when it is over.
        while not wait([done], timeout=0.5).done:
            pass
        return done.result()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(task.cancel)
        if thread.is_alive():
            thread.join()
        raise
