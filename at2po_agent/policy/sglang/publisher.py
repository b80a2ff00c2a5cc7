"""``Publisher``: gives SGLang servers the weights of a trained model, and again to those that come back."""

from __future__ import annotations

import threading
import uuid
from contextlib import ExitStack
from time import monotonic

from at2po_agent.policy.base import CausalLM, PolicyError, PolicyUnavailable
from at2po_agent.policy.engine import EngineConfig
from at2po_agent.policy.sglang.admin import SglangAdmin
from at2po_agent.policy.sglang.launch import RunningServers
from at2po_agent.policy.sglang.weight_sync import WeightSync

_LOOK_S = 1.0  # between two looks at the servers


class Publisher:
    """Keeps the servers of a run at the weights that were published last; one process of a run has it.

    Weights carry a label of this run and their version, so that neither an earlier run's weights nor those that a
    server starts with pass for them. A thread looks after the servers, as other processes may be those that miss one: a
    server that comes back gets the weights again, one that the run has started and that died is started again.

    Args:
        servers: at least one; closed with the publisher, and told about those that go and come back.
        model: whose weights they get now, as version 0.
        sync: how weights reach a server.
        config: ``release_memory`` and ``patience``.

    Raises:
        PolicyUnavailable: no server answers.
        PolicyError: a server refuses the weights, or cannot release memory as ``config`` wants it.
    """

    def __init__(self, servers: RunningServers, model: CausalLM, sync: WeightSync, config: EngineConfig) -> None:
        self._admins = [SglangAdmin(url) for url in servers.urls]
        self._servers, self._sync, self._config = servers, sync, config
        self._run = uuid.uuid4().hex[:8]
        self._label = ""
        self._released = False
        self._refused: dict[str, str] = {}  # URL of a server that came back → why it did not take the weights
        self._weights = threading.Lock()  # held while weights are sent
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._look_after, name="at2po-servers", daemon=True)
        with ExitStack() as undo:
            undo.callback(self._close_servers)
            if config.release_memory:
                self._check_memory_saver()
            self.publish(model, 0)
            self._keeper.start()
            undo.pop_all()

    @property
    def urls(self) -> tuple[str, ...]:
        """Of the servers."""
        return self._servers.urls

    @property
    def label(self) -> str:
        """Of the weights that the servers must have."""
        return self._label

    def publish(self, model: CausalLM, version: int) -> str:
        """Send the weights to every server that answers; the others get them when they are back.

        Returns:
            The label of these weights.

        Raises:
            PolicyUnavailable: none answers for ``patience`` seconds.
            PolicyError: a server refused the weights, in its words.
        """
        with self._weights:
            self._label = f"{self._run}-{version}"
            self._sync.take(model, self._label)
            until = monotonic() + self._config.patience
            while True:
                missing = {server.url: error for server in self._admins if (error := self._try_to_send(server))}
                if len(missing) < len(self._admins):
                    break
                if monotonic() > until:
                    first = next(iter(missing.values()))
                    raise PolicyUnavailable(f"no server took the weights: {first}") from first
                self._revive()
                self._closing.wait(_LOOK_S)
            self._released = False
            for error in missing.values():
                self._servers.note(f"{error}; continuing without it until it is back")
            return self._label

    def release(self) -> None:
        """Free the servers' memory if that was asked for; they sample nothing until ``publish``."""
        if not self._config.release_memory or self._released:
            return
        with self._weights:
            for server in self._admins:
                server.release_memory()
            self._released = True

    def close(self) -> None:
        """Stop looking after the servers, and end those that this run started."""
        self._closing.set()
        self._keeper.join()
        self._close_servers()

    def _close_servers(self) -> None:
        self._sync.close()
        self._servers.close()

    def _check_memory_saver(self) -> None:
        for server in self._admins:
            if not server.has_memory_saver():
                raise PolicyError(
                    f"engine.release_memory needs servers with --enable-memory-saver, and {server.url} runs without it"
                )

    def _try_to_send(self, server: SglangAdmin) -> PolicyUnavailable | None:
        try:
            if self._released:
                server.resume_weights()
            self._sync.send(server)
            if self._released:
                server.resume_cache()
        except PolicyUnavailable as error:
            return error
        return None

    def _look_after(self) -> None:
        while not self._closing.wait(_LOOK_S):
            if self._weights.acquire(blocking=False):
                try:
                    self._revive()
                    self._refresh()
                finally:
                    self._weights.release()

    def _revive(self) -> None:
        for url in self._servers.urls:
            self._servers.revive(url)

    def _refresh(self) -> None:
        """Send the weights to those servers that answer and have others."""
        if self._released:
            return
        for server in self._admins:
            try:
                if server.weight_version() != self._label:
                    self._sync.send(server)
                    self._servers.note(f"{server.url} is back and has the weights again")
                self._refused.pop(server.url, None)
            except PolicyUnavailable:
                continue  # the next look may find it back
            except PolicyError as error:
                if self._refused.get(server.url) != str(error):
                    self._servers.note(f"{server.url} is not used: {error}")
                self._refused[server.url] = str(error)
