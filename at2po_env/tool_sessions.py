"""Tools whose server keeps a state of its own between calls: every episode needs a session of its own with it.

A tool names its ``ToolHost``. ``ToolEnv`` opens the sessions of an episode at its first call, closes them when it ends,
and lets an episode be forked only where the host can be played again.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, Protocol

from at2po_env.errors import ForkError, ToolUnavailable


class ToolSession(Protocol):
    """The session of one episode at a host of tools."""

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """Call a tool by the name that the host knows.

        Raises:
            ToolFault: it brought no result.
            ToolUnavailable: the host is gone.
        """
        ...

    def close(self) -> None:
        """End the session, without waiting for it."""
        ...


class ToolHost(Protocol):
    """Keeps a state of its own between the calls of its tools."""

    @property
    def name(self) -> str:
        """Its name in error messages."""
        ...

    @property
    def replays(self) -> bool:
        """Whether the same calls in a new session bring its state back."""
        ...

    def open(self) -> ToolSession:
        """Begin a session; nothing is connected before its first call."""
        ...


class EpisodeSessions:
    """The sessions of one live episode, closed at the latest with this object.

    Args:
        astray: whether they are not where the episode is: it was begun elsewhere, or a call did not come back.
    """

    def __init__(self, *, astray: bool = False) -> None:
        self.astray = astray
        self._open: dict[ToolHost, ToolSession] = {}

    def at(self, host: ToolHost) -> ToolSession:
        """The session with a host."""
        if host not in self._open:
            session = self._open[host] = host.open()
            weakref.finalize(self, session.close)
        return self._open[host]

    def close(self) -> None:
        """End them."""
        for session in self._open.values():
            session.close()
        self._open.clear()


def check_forkable(hosts: Iterable[ToolHost]) -> None:
    """Check that an episode with these hosts can go on from a turn that another one, or an earlier one, took.

    Raises:
        ForkError: one keeps a state that cannot be brought back.
    """
    if kept := _kept(hosts):
        raise ForkError(
            f"{kept}: an episode cannot be forked, nor continued from a snapshot, because the server may have "
            "state: pass stateless=True if its calls change nothing, or how='replay' if every session starts fresh"
        )


def check_not_lost(hosts: Iterable[ToolHost]) -> None:
    """Check that an episode whose sessions are gone can be played again.

    Raises:
        ToolUnavailable: it cannot.
    """
    if kept := _kept(hosts):
        raise ToolUnavailable(
            f"{kept}: the session of this episode is lost, and the server's state with it: begin the episode again; "
            "with stateless=True (calls change nothing) or how='replay', episodes can continue"
        )


def _kept(hosts: Iterable[ToolHost]) -> str:
    return ", ".join(host.name for host in hosts if not host.replays)
