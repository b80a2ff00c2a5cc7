"""Sends turns that are ready at the same time as one request, of which each comes back as soon as it is done.

Most of what a short turn costs the client and SGLang's front end is its HTTP request. SGLang takes many prompts in one
request, and with ``stream`` it answers each by itself, so no turn waits for the slowest one.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from at2po_agent.policy.base import PolicyError, PolicyUnavailable
from at2po_agent.policy.sglang.transport import BadAnswer, NoAnswer, Transport
from search_backend.outside import Unusable

MOST_TOGETHER = 64
"""Turns of one request. More save little, and SGLang looks through all that are left whenever one says something."""

_WHOLE = 2**30  # tokens that the server collects before it streams them: more than any turn has


@dataclass(eq=False)
class _Turn:
    """A turn that somebody waits for."""

    body: Mapping[str, Any]  # of a request for it alone, without its name
    where: str
    answer: asyncio.Future[Any]
    rid: str = ""  # its name at the server, a new one whenever it is asked again
    request: asyncio.Task[None] | None = None  # that it is part of
    beside: dict[str, _Turn] = field(default_factory=dict)  # the turns of that request which are not done, by name

    def succeed(self, told: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(told)

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Batcher:
    """The turns of one server, and their names there.

    Args:
        transport: to the server.
        abort: makes the server give up the turn of this name.
        most: turns of one request.
    """

    def __init__(
        self, transport: Transport, abort: Callable[[str], Awaitable[None]], most: int = MOST_TOGETHER
    ) -> None:
        self._transport, self._abort, self._most = transport, abort, most
        self._ready: list[_Turn] = []
        self._requests: set[asyncio.Future[None]] = set()
        self._aborts: set[asyncio.Future[None]] = set()
        self._client, self._numbers = uuid.uuid4().hex, itertools.count()

    async def generate(self, body: Mapping[str, Any], where: str = "") -> Any:
        """SGLang's answer to one turn, which is aborted on the server when nobody waits for it any more.

        Args:
            body: of a request to ``/generate`` for this turn alone, without ``rid``.
            where: stands in the message of a refusal.

        Raises:
            PolicyError: as ``Transport`` does.
        """
        loop = asyncio.get_running_loop()
        turn = _Turn(body, where, loop.create_future())
        self._ready.append(turn)
        if len(self._ready) == 1:
            loop.call_soon(self._send)
        try:
            return await turn.answer
        except (asyncio.CancelledError, NoAnswer):
            self._give_up(turn)
            raise

    async def settle(self) -> None:
        """Wait until the aborts that were begun are sent."""
        await asyncio.gather(*self._aborts)

    def _send(self) -> None:
        ready, self._ready = [turn for turn in self._ready if not turn.answer.done()], []
        for first in range(0, len(ready), self._most):
            self._begin(ready[first : first + self._most])

    def _begin(self, turns: Sequence[_Turn]) -> None:
        """Ask the server for these turns in one request."""
        for turn in turns:
            # The number first: a server aborts every request whose name begins with the given one.
            turn.rid = f"{next(self._numbers)}-{self._client}"
        left = {turn.rid: turn for turn in turns}
        request = asyncio.get_running_loop().create_task(
            self._together(left) if len(turns) > 1 else self._alone(turns[0])
        )
        for turn in turns:
            turn.request, turn.beside = request, left
        self._requests.add(request)
        request.add_done_callback(partial(self._ended, left))

    def _ended(self, left: dict[str, _Turn], request: asyncio.Future[None]) -> None:
        """Whatever ended a request, nobody waits for ever."""
        self._requests.discard(request)
        error = None if request.cancelled() else request.exception()
        for turn in left.values():
            if error is not None:
                turn.fail(error)
            turn.answer.cancel()  # nothing where it is done
        left.clear()

    def _give_up(self, turn: _Turn) -> None:
        if turn.request is None:
            return  # it was not sent yet
        turn.beside.pop(turn.rid, None)
        if not turn.beside:
            turn.request.cancel()
        abort = asyncio.ensure_future(self._abort(turn.rid))
        self._aborts.add(abort)
        abort.add_done_callback(self._aborts.discard)

    async def _alone(self, turn: _Turn) -> None:
        try:
            turn.succeed(await self._transport.post("/generate", {"rid": turn.rid, **turn.body}, turn.where))
        except PolicyError as error:
            turn.fail(error)

    async def _together(self, left: dict[str, _Turn]) -> None:
        """Answer the turns as they are done, and ask alone for each that gets no answer here.

        Of several turns the server does not say which one it refuses, and asked for one alone it says why.
        """
        names = frozenset(left)

        def take(told: Any) -> bool:
            if isinstance(told, dict) and "error" in told:
                return False  # after which the answer ends
            try:
                meta, ids = told["meta_info"], told["output_ids"]
                finish = meta["finish_reason"]
                if finish is None:  # the first token, which comes at once, and again when the turn is done
                    return False
                refused, some = finish.get("status_code"), len(ids) < meta.get("completion_tokens", 0)
                turn = left.pop(meta["id"], None)
                if turn is None and meta["id"] not in names:
                    raise KeyError(meta["id"])
            except (KeyError, TypeError, AttributeError) as error:
                raise Unusable(f"an event that answers no turn: {type(error).__name__} {error}") from error
            if some:  # the server streams only what is new (--incremental-streaming-output)
                self._most = 1
            if turn is None:
                return False  # it was given up
            if refused or some:
                self._begin([turn])
            else:
                turn.succeed(told)
            return True

        try:
            await self._transport.stream("/generate", _batch(left), take)
        except PolicyError as error:
            if isinstance(error, PolicyUnavailable) and not isinstance(error, BadAnswer):
                for turn in left.values():
                    # An error of its own, as whoever waits adds to its traceback.
                    turn.fail(type(error)(str(error)))
                left.clear()
        for turn in list(left.values()):
            self._begin([turn])
        left.clear()


def _batch(turns: Mapping[str, _Turn]) -> dict[str, Any]:
    """The body of one request for several turns."""
    bodies = [turn.body for turn in turns.values()]
    batch: dict[str, Any] = {name: [body[name] for body in bodies] for name in bodies[0]}
    batch["sampling_params"] = [{**params, "stream_interval": _WHOLE} for params in batch["sampling_params"]]
    return batch | {"rid": list(turns), "stream": True}
