"""Starts the real MCP servers of the tests."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
COUNTER = [sys.executable, str(HERE / "mcp_counter.py")]
HOSTILE = [sys.executable, str(HERE / "mcp_hostile.py")]


class HttpCounter:
    """``mcp_counter`` over streamable HTTP, to be killed and started again at the same address."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen([*COUNTER, str(self.port)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise TimeoutError("the MCP server did not start")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def http_counter() -> Iterator[HttpCounter]:
    """A server until the end of the block."""
    server = HttpCounter()
    try:
        yield server
    finally:
        server.kill()
