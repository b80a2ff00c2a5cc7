"""``Fleet``: SGLang servers with the same weights, of which some may be away, or have other weights, for a while."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from at2po_agent.policy.base import PolicyError, PolicyUnavailable, Request
from at2po_agent.policy.sglang.server import Aborted, Answer, Server
from search_backend.retry import Backoff

_TRIES = 4  # of a turn, each on a server that seemed to be well
_REST_S = 1.0  # between two questions whether a server is well again
_ABORTED = Backoff(first=0.2)  # before an aborted turn is tried again


class Fleet:
    """Sends every turn to a server that is well and has the expected weights. All of it runs on one event loop.

    Args:
        servers: at least one.
        check: raises PolicyError for a server that must not be used; asked whenever one comes back.

    Raises:
        PolicyError: there is none.
    """

    def __init__(self, servers: Sequence[Server], check: Callable[[Server], Awaitable[None]]) -> None:
        if not servers:
            raise PolicyError("SGLang needs the URL of at least one server")
        self.servers = tuple(servers)
        self.weight_version = ""  # that the servers must have; set by whoever updates them
        self._check = check
        self._homes: Homes[Server] = Homes()
        self._probes: dict[Server, asyncio.Task[None]] = {}
        self._asked_at: dict[Server, float] = {}

    def expect(self, weight_version: str) -> None:
        """From now on only servers with these weights are used; whoever has them may be used again at once."""
        self.weight_version = weight_version
        self._asked_at.clear()
        for server in self.servers:
            server.forget()

    async def generate(self, request: Request, params: Mapping[str, Any], top_logprobs: int) -> Answer:
        """Sample one turn on the server that has the request's prefix; on another one where that fails.

        Raises:
            PolicyError: a server refuses the request.
            PolicyUnavailable: no server with the expected weights answers.
        """
        pauses, error = _ABORTED.pauses(_TRIES), PolicyUnavailable("")
        for _ in range(_TRIES):
            server = self._homes.choose(request, await self._usable())
            expected = self.weight_version
            try:
                answer = await server.generate(
                    request.prompt, params, top_logprobs=top_logprobs, where=f"request {request.key}"
                )
            except Aborted as aborted:
                error = aborted
                await asyncio.sleep(next(pauses))
            except PolicyUnavailable as unavailable:
                server.trouble, error = str(unavailable), unavailable
            else:
                if not {expected, self.weight_version}.isdisjoint(answer.weight_versions):
                    return answer
                self._check_weights(server, answer.weight_versions[-1])
                error = PolicyUnavailable(server.trouble or "")
        raise error

    async def _usable(self) -> Sequence[Server]:
        """Servers that are well; those that were not are asked again, and waited for only if there is no other."""
        for server in self.servers:
            if server.trouble and server not in self._probes and self._rested(server):
                self._probes[server] = asyncio.create_task(self._probe(server))
        while self._probes and all(server.trouble for server in self.servers):
            await asyncio.wait(self._probes.values(), return_when=asyncio.FIRST_COMPLETED)
        usable = [server for server in self.servers if server.trouble is None]
        if not usable:
            raise PolicyUnavailable("; ".join(str(server.trouble) for server in self.servers))
        return usable

    def _rested(self, server: Server) -> bool:
        return monotonic() - self._asked_at.get(server, -_REST_S) >= _REST_S

    async def _probe(self, server: Server) -> None:
        try:
            version = await server.weight_version()
            await self._check(server)
            self._check_weights(server, version)
        except PolicyError as error:
            server.trouble = str(error)
        finally:
            self._asked_at[server] = monotonic()
            del self._probes[server]

    def _check_weights(self, server: Server, version: str) -> None:
        expected = self.weight_version
        server.trouble = None if version == expected else f"{server.url} has the weights {version!r}, not {expected!r}"


_MOST_HOMES = 65536  # far more than the trees that grow at the same time


class Place(Protocol):
    """A destination of requests: a server, or a router."""

    running: int  # requests under way


P = TypeVar("P", bound=Place)


def tree_of(request: Request) -> tuple[int, ...]:
    """The tree that a request belongs to: ``grow`` puts path and turn last in the key."""
    return request.key[:-2] or request.key


class Homes(Generic[P]):
    """Remembers the home of every tree, the least recently used forgotten first."""

    def __init__(self) -> None:
        self._homes: OrderedDict[tuple[int, ...], P] = OrderedDict()

    def choose(self, request: Request, usable: Sequence[P]) -> P:
        """The home of the request's tree; where that is not usable, the tree moves to the least busy place."""
        tree = tree_of(request)
        home = self._homes.get(tree)
        if home is None or home not in usable:
            home = min(usable, key=lambda place: place.running)
        self._homes[tree] = home
        self._homes.move_to_end(tree)
        if len(self._homes) > _MOST_HOMES:
            self._homes.popitem(last=False)
        return home
