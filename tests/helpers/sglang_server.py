"""Starts the real SGLang servers that the service tests need; ``builtin:microwiki`` is the policy that they serve."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from at2po_agent.policy.loading import resolve_policy
from tests.helpers.places import SHARED
from tests.helpers.servers import free_port

STARTER = SHARED / "sglang" / "sglang"
MICROWIKI = resolve_policy("builtin:microwiki")


class SGLang:
    """A server of one's own on a port that stays the same, to be killed, stopped for a while, and started again.

    Args:
        model: the directory that it serves.
        arguments: further ones for ``sglang.launch_server``.
        environment: variables that the server sees.
    """

    def __init__(self, model: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        if not STARTER.is_file():
            pytest.skip(f"no SGLang: set AT2PO_SGLANG_URL to one of builtin:microwiki (none to start at {STARTER})")
        self.model, self.arguments, self.environment = model, arguments, environment or {}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Returns when the server answers: half a minute, and some where others use the machine."""
        with_uv = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        outcome = subprocess.run(
            [
                STARTER,
                "start",
                "--model",
                self.model,
                "--port",
                str(self.port),
                "--",
                "--sleep-on-idle",
                *self.arguments,
            ],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PATH": with_uv} | self.environment,
            capture_output=True,
            text=True,
            timeout=900,  # the first one installs it
        )
        until = time.monotonic() + 300  # the starter itself waits for two minutes
        while outcome.returncode and self._run("status"):
            if time.monotonic() < until:
                time.sleep(2)
                continue
            self.kill()
            raise RuntimeError(f"SGLang did not start: {outcome.stderr}\n{self.log()[-2000:]}")

    def kill(self) -> None:
        """SIGKILL to every process of the server; nothing happens where it is dead already."""
        self._run("kill")

    def hang(self) -> None:
        """The server keeps its connections and answers nothing until ``go_on``."""
        os.killpg(self._group(), signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self._group(), signal.SIGCONT)

    def _run(self, command: str) -> int:
        words = [STARTER, command, "--port", str(self.port)]
        return subprocess.run(words, check=False, capture_output=True, timeout=60).returncode

    def log(self) -> str:
        return (self._folder / "sglang.log").read_text(encoding="utf-8", errors="replace")

    @property
    def _folder(self) -> Path:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        return cache / "at2po" / f"run-{self.port}"

    def _group(self) -> int:
        return int((self._folder / "sglang.pid").read_text())


@pytest.fixture(scope="session")
def sglang_url() -> Iterator[str]:
    """URL of a server of ``builtin:microwiki``: AT2PO_SGLANG_URL, or one that is started here. Leave it unharmed."""
    if url := os.environ.get("AT2PO_SGLANG_URL"):
        yield url.rstrip("/")
        return
    server = SGLang(MICROWIKI)
    yield server.url
    server.kill()


@pytest.fixture(scope="module")
def own_sglang() -> Iterator[Callable[..., SGLang]]:
    """A function that starts a server of the module's own, by default of ``builtin:microwiki``; gone afterwards."""
    made: list[SGLang] = []

    def start(*arguments: str, model: Path = MICROWIKI, environment: dict[str, str] | None = None) -> SGLang:
        made.append(SGLang(model, *arguments, environment=environment))
        return made[-1]

    yield start
    for server in made:
        server.kill()
