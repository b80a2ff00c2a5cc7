"""Start the SGLang servers of a run, wait until they answer, and end them with the run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep

from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.engine import LaunchConfig
from at2po_agent.policy.sglang.admin import SglangAdmin
from at2po_agent.policy.sglang.keeper import GRACE_S

_TAIL_LINES = 20
_SAY_S = 15.0  # between two lines about a server that is still starting


class Server:
    """One started server."""

    def __init__(self, config: LaunchConfig, model: Path, index: int, log: Path) -> None:
        self.url = f"http://{config.host}:{config.port + index}"
        self.log = log
        names = {
            "model": str(model),
            "host": config.host,
            "port": str(config.port + index),
            "index": str(index),
            "python": sys.executable,
        }
        self._command = [*_words(config.command, names), *(_fill(word, names) for word in config.arguments)]
        self._stop = _words(config.stop, names)
        self._environment = {name: _fill(value, names) for name, value in config.environment.items()}
        self._start_seconds = config.start_seconds
        self._keeper: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the command under a keeper; its output goes to the log.

        Raises:
            PolicyError: something answers at its address already.
        """
        admin = SglangAdmin(self.url)
        if admin.healthy():
            raise PolicyError(
                f"a server answers at {self.url} already: stop it, name it in engine.urls, or change engine.launch.port"
            )
        self.release()  # the pipe of the one that died
        stop = ["--stop", *self._stop, "--"] if self._stop else []
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", "at2po_agent.policy.sglang.keeper", *stop, *self._command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | self._environment,
                start_new_session=True,  # Ctrl-C is for the trainer, which ends its step first
            )

    def wait(self, note: Callable[[str], None]) -> None:
        """Until it generates.

        Raises:
            PolicyError: it died, or did not answer in time; the message ends with the end of its log.
        """
        admin, started, said = SglangAdmin(self.url), monotonic(), monotonic()
        while not admin.healthy():
            if not self.running:
                raise PolicyError(f"the server for {self.url} ended while it started; the end of {self.tail()}")
            waited = monotonic() - started
            if waited > self._start_seconds:
                raise PolicyError(f"{self.url} did not answer in {self._start_seconds:g} s; the end of {self.tail()}")
            if monotonic() - said > _SAY_S:
                said = monotonic()
                note(f"waiting for {self.url} ({waited:.0f} s; log: {self.log})")
            sleep(0.2)

    @property
    def running(self) -> bool:
        """Whether its keeper is there; of a server in the background only its address can tell."""
        return self._keeper is not None and self._keeper.poll() is None

    def tail(self) -> str:
        """The log's path and its last lines."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join([f"{self.log}:", *(f"  {line}" for line in lines)])

    def release(self) -> None:
        """Tell the keeper to end it."""
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()

    def ended(self) -> None:
        """Wait until all of it is gone."""
        if self._keeper is not None:
            self._keeper.wait(GRACE_S + 60)


class RunningServers:
    """Servers that somebody else starts and ends.

    Args:
        urls: where they listen.
        note: told about servers that go and come back.
    """

    def __init__(self, urls: Sequence[str], note: Callable[[str], None] = lambda text: None) -> None:
        self.urls, self.note = tuple(urls), note

    def revive(self, url: str) -> None:
        """Do nothing: whoever started the server for ``url`` has to start it again."""

    def close(self) -> None:
        """Do nothing: they stay."""


class Servers(RunningServers):
    """Servers that a run starts, and ends by ``close``.

    Args:
        config: how many, and how they are started.
        model: a Hugging Face folder that the servers begin with.
        logs: a folder for ``server-0.log`` and so on.
        note: told about what takes long, and about servers that go and come back.

    Raises:
        PolicyError: a server did not start; those that did are ended.
    """

    def __init__(self, config: LaunchConfig, model: Path, logs: Path, note: Callable[[str], None]) -> None:
        self._servers = [Server(config, model, index, logs / f"server-{index}.log") for index in range(config.servers)]
        super().__init__([server.url for server in self._servers], note)
        note(f"starting {config.servers} SGLang server(s), logs in {logs}")
        try:
            for server in self._servers:
                server.start()
            for server in self._servers:
                server.wait(note)
        except BaseException:
            self.close()
            raise

    def revive(self, url: str) -> None:
        """Start the server for ``url`` again if it has died; returns at once."""
        for server in self._servers:
            if server.url == url and not server.running:
                self.note(f"{url} died and is started again; the end of {server.tail()}")
                server.start()

    def close(self) -> None:
        """End all of them, together."""
        for server in self._servers:
            server.release()
        for server in self._servers:
            server.ended()


def _words(text: str, names: Mapping[str, str]) -> Sequence[str]:
    return [_fill(word, names) for word in shlex.split(text)]


def _fill(text: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return text
