"""``RemoteEnv``: an environment on an OpenEnv server of ours, for ``grow`` and every loop over a ``ForkableEnv``.

.. code-block:: python

    env = RemoteEnv("http://127.0.0.1:8000")
    env.reset(options={"split": "train", "index": 3})
    tree = await grow(env, actor, expansion)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from gymnasium.error import ResetNeeded
from openenv.core.client_types import StepResult as RemoteResult

from at2po_env.core import ForkableEnv, StepResult
from at2po_env.errors import EnvError, SnapshotError, ToolUnavailable
from at2po_env.integrations.openenv_client import TurnClient
from at2po_env.integrations.openenv_wire import OURS, SessionLost, TurnAction, error_from_wire, text_from_wire
from at2po_env.spaces import UnicodeText
from at2po_env.state import Text, plain
from search_backend.background import BackgroundLoop


@dataclass(frozen=True)
class RemoteSnapshot:
    """An episode on a server, known by an id, with what the server said of it."""

    id: str
    observation: Text = field(compare=False, repr=False)
    info: Mapping[str, Any] = field(compare=False, repr=False)
    stop: tuple[str, ...] = field(compare=False, repr=False)

    @classmethod
    def of(cls, result: RemoteResult) -> RemoteSnapshot:
        """The episode that a result with ``rendered=True`` is about."""
        info = dict(result.metadata)
        ours = info.pop(OURS)
        return cls(ours["snapshot"], text_from_wire(ours), info, tuple(ours["stop"]))


Ask = Callable[[TurnClient], Awaitable[RemoteResult]]


class _Sessions:
    """Sessions on one server, shared by an environment and its clones: whoever takes a turn borrows one."""

    def __init__(self, connect: Callable[[], TurnClient], most: int) -> None:
        self.loop = BackgroundLoop("openenv", partial(ToolUnavailable, "the environment was closed"))
        self._connect = connect
        self._idle: dict[TurnClient, str | None] = {}  # with the snapshots that they stand at, the last used last
        self._room = asyncio.Semaphore(most)

    async def ask(self, here: str | None, ask: Ask) -> RemoteResult:
        """Ask for something at a snapshot, or anywhere.

        Raises:
            EnvError: a ``ToolUnavailable`` where the same may be asked again.
        """
        async with self._room:
            try:
                return await self._ask(self._nearest(here), here, ask)
            except SessionLost:
                # A session that was idle for too long is gone: a new one begins at the snapshot.
                return await self._ask(self._connect(), here, ask)

    def _nearest(self, here: str | None) -> TurnClient:
        at = next((client for client in reversed(self._idle) if self._idle[client] == here), None)
        return at or next(reversed(self._idle), None) or self._connect()

    async def _ask(self, client: TurnClient, here: str | None, ask: Ask) -> RemoteResult:
        try:
            stands_at = self._idle.pop(client, None)
            if here is not None and stands_at != here:
                await client.reset(snapshot=here, rendered=True)
            result = await ask(client)
        except BaseException as error:
            await client.close()
            if not isinstance(error, Exception):
                raise
            raise error_from_wire(error) from error
        self._idle[client] = result.metadata[OURS]["snapshot"]
        return result

    def close(self) -> None:
        """End every session."""
        self.loop.close(self._end)

    async def _end(self) -> None:
        clients, self._idle = list(self._idle), {}
        await asyncio.gather(*(client.close() for client in clients))


class RemoteEnv(ForkableEnv[RemoteSnapshot]):
    """An environment on a server, which forks by snapshots over there; ``grow`` takes it as any other one.

    Args:
        url: of the server.
        token: that it asks for.
        sessions: at most so many turns are taken at a time.
        timeout: seconds for an answer.

    A server that does not answer, or says that its search does not, is a ``ToolUnavailable``: the episode is as it was.
    """

    waits_for = "environment server"

    def __init__(self, url: str, *, token: str | None = None, sessions: int = 64, timeout: float = 60.0) -> None:
        headers = None if token is None else {"Authorization": f"Bearer {token}"}
        self._sessions = _Sessions(partial(TurnClient, url, message_timeout_s=timeout, headers=headers), sessions)
        self._owner = True
        self._here: RemoteSnapshot | None = None
        self.action_space, self.observation_space = UnicodeText(), UnicodeText()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin an episode, or continue one: options are ``split``, ``index`` or ``task_id``, or ``snapshot``."""
        super().reset(seed=seed)
        wanted = dict(options or {})
        snapshot = wanted.pop("snapshot", None)
        if snapshot is not None and not wanted:
            self.restore(snapshot)
        elif snapshot is not None:
            raise EnvError(f"reset takes the option snapshot alone, got {', '.join(wanted)} too")
        else:
            ask = partial(_reset, {"seed": seed, **wanted})
            self._stand(RemoteSnapshot.of(self._sessions.loop.run(self._sessions.ask(None, ask))))
        return plain(self.observation()), dict(self.snapshot().info)

    def step(self, action: str) -> StepResult:
        """Take one turn.

        Raises:
            ToolUnavailable: the server, or what it searches, does not answer.
        """
        return self._stepped(self._sessions.loop.run(self._acted(TurnAction(text=action))))

    async def astep(self, action: str) -> StepResult:
        """``step`` that lets other episodes go on while the server works."""
        return self._stepped(await self._sessions.loop.wait(self._acted(TurnAction(text=action))))

    def end(self, reason: str) -> StepResult:
        """End the episode from outside, for the reasons ``length_limit`` and ``turn_limit``."""
        return self._stepped(self._sessions.loop.run(self._acted(TurnAction(text="", end=reason))))

    async def _acted(self, action: TurnAction) -> RemoteResult:
        return await self._sessions.ask(self.snapshot().id, partial(_step, action))

    def _stepped(self, result: RemoteResult) -> StepResult:
        truncated = bool(result.metadata[OURS]["truncated"])
        self._stand(RemoteSnapshot.of(result))
        info = dict(self.snapshot().info)
        return plain(self.observation()), float(result.reward), result.done and not truncated, truncated, info

    def _stand(self, snapshot: RemoteSnapshot) -> None:
        self._here, self.stop = snapshot, snapshot.stop

    def observation(self) -> Text:
        """The text for the model."""
        return self.snapshot().observation

    def snapshot(self) -> RemoteSnapshot:
        """The current episode. Taking it costs a reference: the server keeps what it stands for."""
        if self._here is None:
            raise ResetNeeded("call reset() first: there is no episode yet")
        return self._here

    def restore(self, snapshot: RemoteSnapshot) -> None:
        """Continue from ``snapshot``. The server reads it with the next turn, and refuses one that it does not know."""
        if not isinstance(snapshot, RemoteSnapshot):
            raise SnapshotError(f"a snapshot is a RemoteSnapshot, got {type(snapshot).__name__}")
        self._stand(snapshot)

    def clone(self) -> Self:
        """A new environment on the same sessions, not yet reset."""
        env = type(self).__new__(type(self))
        env.__dict__ |= {**self.__dict__, "_here": None, "_owner": False, "_np_random": None, "_np_random_seed": None}
        return env

    def close(self) -> None:
        """End all sessions, if this is no clone."""
        if self._owner:
            self._sessions.close()


async def _reset(where: Mapping[str, Any], client: TurnClient) -> RemoteResult:
    return await client.reset(rendered=True, **where)


async def _step(action: TurnAction, client: TurnClient) -> RemoteResult:
    return await client.step(action)
