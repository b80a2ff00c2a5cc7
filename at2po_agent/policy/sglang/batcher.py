"""Sends turns that are ready at the same time as one request, of which each comes back as soon as it is done.

Most of what a short turn costs the client and SGLang's front end is its HTTP request. SGLang takes many prompts in one
request, and with ``stream`` it answers each by itself, so no turn waits for the slowest one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from at2po_agent.policy.base import PolicyError, PolicyUnavailable
from at2po_agent.policy.sglang.transport import BadAnswer, Transport
from search_backend.outside import Unusable

MOST_TOGETHER = 64
"""Turns of one request: at each that is done, the server looks through all that it holds."""

_WHOLE = 2**30  # tokens that the server collects before it streams them: more than any turn has


@dataclass(frozen=True, eq=False)
class _Turn:
    """A turn that somebody waits for."""

    body: Mapping[str, Any]  # of a request for it alone
    where: str
    answer: asyncio.Future[Any]

    def succeed(self, told: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(told)

    def fail(self, error: PolicyError) -> None:
        if not self.answer.done():
            self.answer.set_exception(type(error)(str(error)))  # one of its own: whoever waits adds to its traceback


class Batcher:
    """The turns of one server.

    Args:
        transport: to the server.
        most: turns of one request.
    """

    def __init__(self, transport: Transport, most: int = MOST_TOGETHER) -> None:
        self._transport, self._most = transport, most
        self._ready: list[_Turn] = []
        self._requests: set[asyncio.Task[None]] = set()

    async def generate(self, body: Mapping[str, Any], where: str = "") -> Any:
        """SGLang's answer to one turn; a cancelled call gives the turn up.

        Args:
            body: of a request to ``/generate`` for this turn alone, with its ``rid``.
            where: stands in the message of a refusal.

        Raises:
            PolicyError: as ``Transport`` does.
        """
        loop = asyncio.get_running_loop()
        turn = _Turn(body, where, loop.create_future())
        self._ready.append(turn)
        if len(self._ready) == 1:
            loop.call_soon(self._send)
        return await turn.answer

    def _send(self) -> None:
        ready, self._ready = [turn for turn in self._ready if not turn.answer.done()], []
        for first in range(0, len(ready), self._most):
            turns = ready[first : first + self._most]
            request = asyncio.get_running_loop().create_task(self._request(turns))
            self._requests.add(request)
            request.add_done_callback(partial(self._ended, turns))
            for turn in turns:
                turn.answer.add_done_callback(partial(_give_up, request, turns))

    def _ended(self, turns: Sequence[_Turn], request: asyncio.Task[None]) -> None:
        """Whatever ended a request, nobody waits for ever."""
        self._requests.discard(request)
        error = None if request.cancelled() else request.exception()
        for turn in turns:
            if error is None:
                turn.answer.cancel()  # nothing where it is done
            elif not turn.answer.done():
                turn.answer.set_exception(error)

    async def _request(self, turns: Sequence[_Turn]) -> None:
        refused = turns if len(turns) == 1 else await self._together(turns)
        await asyncio.gather(*(self._alone(turn) for turn in refused if not turn.answer.done()))

    async def _together(self, turns: Sequence[_Turn]) -> Sequence[_Turn]:
        """Answer the turns as they are done.

        Returns:
            Those that the server may refuse: of a batch it does not say which, and asked alone it says why.
        """
        left = {turn.body["rid"]: turn for turn in turns}
        refused: list[_Turn] = []

        def take(told: Any) -> bool:
            if isinstance(told, dict) and "error" in told:
                refused.extend(left.values())
                left.clear()
                return False
            try:
                rid, finish = told["meta_info"]["id"], told["meta_info"]["finish_reason"]
                if finish is None:  # the first token, which comes at once, and again when the turn is done
                    return False
                failed, turn = finish.get("status_code"), left.pop(rid)
            except (KeyError, TypeError, AttributeError) as error:
                raise Unusable(f"an event that answers no turn: {type(error).__name__} {error}") from error
            if failed:
                refused.append(turn)
            else:
                turn.succeed(told)
            return True

        try:
            await self._transport.stream("/generate", _batch([turn.body for turn in turns]), take)
            if left:
                raise BadAnswer(f"{self._transport.url} ended its answer before {len(left)} of {len(turns)} turns")
        except PolicyUnavailable as error:
            for turn in left.values():
                turn.fail(error)
        except PolicyError:
            return turns
        return refused

    async def _alone(self, turn: _Turn) -> None:
        try:
            turn.succeed(await self._transport.post("/generate", turn.body, turn.where))
        except PolicyError as error:
            turn.fail(error)


def _batch(bodies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The body of one request for several turns."""
    batch: dict[str, Any] = {name: [body[name] for body in bodies] for name in bodies[0]}
    batch["sampling_params"] = [{**params, "stream_interval": _WHOLE} for params in batch["sampling_params"]]
    return batch | {"stream": True}


def _give_up(request: asyncio.Task[None], turns: Sequence[_Turn], answer: asyncio.Future[Any]) -> None:
    """End a request when nobody waits for any of its turns."""
    if answer.cancelled() and all(turn.answer.done() for turn in turns):
        request.cancel()
