"""Lockstep admission: which requests run together is a function of the seed alone, never of who was faster.

Float results depend on the shape of a batch, and the shape of a batch on latency. In deterministic mode every growing
tree waits with its next turns until all the others do; then all run as one batch, in the order of their keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from at2po_agent.policy.base import Completion, Policy, Request, Sampling

_Call = tuple[Sequence[Request], Sampling, asyncio.Future[list[Completion]]]


class Lockstep:
    """A policy that holds every call back until each of its ``members`` has one, then runs them as one batch."""

    def __init__(self, policy: Policy, members: int) -> None:
        self._policy = policy
        self._members = members
        self._waiting: list[_Call] = []
        self._running: set[asyncio.Task[None]] = set()

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Wait for the other members, then continue every prompt by one turn."""
        future: asyncio.Future[list[Completion]] = asyncio.get_running_loop().create_future()
        self._waiting.append((requests, sampling, future))
        self._release()
        return await future

    def leave(self) -> None:
        """A member is done (or failed) and will not call again."""
        self._members -= 1
        self._release()

    def _release(self) -> None:
        if self._waiting and len(self._waiting) >= self._members:
            calls, self._waiting = sorted(self._waiting, key=lambda call: call[0][0].key), []
            task = asyncio.create_task(self._run(calls))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, calls: Sequence[_Call]) -> None:
        merged = [request for requests, _, _ in calls for request in requests]
        try:
            completions = await self._policy.generate(merged, calls[0][1])
        except BaseException as error:
            for _, _, future in calls:
                if not future.done():
                    future.set_exception(error)
            return
        for requests, _, future in calls:
            if not future.done():
                future.set_result(completions[: len(requests)])
            completions = completions[len(requests) :]
