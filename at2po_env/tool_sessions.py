"""Tools whose server keeps a state of its own between calls: every episode needs a session of its own with it.

A tool names its ``ToolHost``. ``ToolEnv`` opens the sessions of an episode at its first call, closes them when it ends,
and lets an episode be forked only where the host can be played again.
"""

from __future__ import annotations

import weakref
from typing import Any, Protocol


class ToolSession(Protocol):
    """What one episode does at a host."""

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
        """What errors call it."""
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
