"""Tasks that run together in an event loop: all at once, or a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def run_all(work: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run coroutines at the same time and return their results in order.

    The first error cancels the others and is raised as it is, not inside an exception group.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
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
