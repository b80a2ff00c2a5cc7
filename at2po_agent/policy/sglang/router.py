"""SGLang's own router before several servers: it decides which of them samples a turn.

The router (``sglang-router`` 0.3.2) hands ``/generate`` on. It has no ``/abort_request``, and does not tell one server
from another where it answers what a server is, so all else is asked of the servers themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp

from at2po_agent.policy.base import PolicyUnavailable
from at2po_agent.policy.sglang.server import Server


class Router(Server):
    """A router as a ``Fleet`` sees it: one server, whose weights are those of all servers behind it.

    Args:
        url: of the router.
        servers: all those that it knows, so that no turn is sampled by one whose weights nobody looks after.
        session: see ``Server``.
        timeout: see ``Server``.
    """

    def __init__(self, url: str, servers: Sequence[Server], session: aiohttp.ClientSession, timeout: float) -> None:
        super().__init__(url, session, timeout, together=1)  # it decides turn by turn, and knows no batch with names
        self._servers = servers

    async def weight_version(self) -> str:
        """The version of the servers that answer; of different ones all.

        Raises:
            PolicyUnavailable: none answers.
        """
        found = await asyncio.gather(*(server.weight_version() for server in self._servers), return_exceptions=True)
        versions = {version for version in found if isinstance(version, str)}
        for error in found:
            if isinstance(error, BaseException) and (not versions or not isinstance(error, PolicyUnavailable)):
                raise error
        return " and ".join(sorted(versions))

    async def abort(self, rid: str) -> None:
        """Abort a turn on whichever server has it."""
        await asyncio.gather(*(server.abort(rid) for server in self._servers))
