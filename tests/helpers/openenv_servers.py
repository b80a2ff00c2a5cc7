"""Runs OpenEnv servers of ours in this process, for the tests in their environment."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn

from at2po_env.integrations.openenv_guard import Limits
from at2po_env.integrations.openenv_server import create_app
from at2po_env.integrations.openenv_snapshots import Snapshots
from at2po_env.tasks import TaskEnv
from tests.helpers.servers import free_port


class Wire:
    """ASGI middleware that keeps every message that a server sends."""

    def __init__(self, app: Any) -> None:
        self.app, self.sent = app, []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def kept(message: Any) -> None:
            self.sent.append(json.dumps({key: str(value) for key, value in message.items()}))
            await send(message)

        await self.app(scope, receive, kept)


@contextmanager
def serving(
    envs: Mapping[str, TaskEnv[Any]],
    *,
    sessions: int = 64,
    limits: Limits | None = None,
    snapshots: Snapshots | None = None,
) -> Iterator[tuple[str, Wire]]:
    """The address of a server, and what it sends."""
    wire = Wire(create_app(envs, name="towers", sessions=sessions, limits=limits, snapshots=snapshots))
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(wire, port=port, log_level="critical", lifespan="on", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}", wire
    finally:
        server.should_exit = True
        thread.join()
