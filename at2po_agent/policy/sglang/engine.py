"""``SGLangEngine``: SGLang servers as the engine of a trainer, which keeps their weights up to date."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Coroutine, Sequence, Set
from contextlib import ExitStack
from time import monotonic
from typing import Any, TypeVar

from at2po_agent.policy.base import CausalLM, Completion, PolicyError, PolicyUnavailable, Request, Sampling, Stats
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.engine import EngineConfig
from at2po_agent.policy.sglang.admin import SglangAdmin
from at2po_agent.policy.sglang.check import known_prompt
from at2po_agent.policy.sglang.launch import RunningServers
from at2po_agent.policy.sglang.policy import SGLangPolicy
from at2po_agent.policy.sglang.weight_sync import WeightSync

Result = TypeVar("Result")

_LOOK_S = 1.0  # between two looks at servers that are not used
_DEFAULTS = EngineConfig(kind="sglang")


class SGLangEngine:
    """An ``Engine`` of one or more SGLang servers.

    Weights carry a label of this engine and their version, so that neither an earlier run's weights nor those that a
    server starts with pass for them; the policy checks it on every completion. A thread looks after servers that are
    not used: one that comes back gets the weights again, one that the run has started and that died is started again.

    Args:
        servers: at least one; closed with the engine, and told about those that go and come back.
        model: whose weights they get now, as version 0.
        codec: its tokenizer.
        sync: how weights reach a server.
        config: ``router`` (before exactly these servers; weights do not go through it), ``release_memory``,
            ``patience`` and ``timeout``.
        max_connections: requests that are sent at the same time.

    Raises:
        PolicyUnavailable: no server answers.
        PolicyError: the servers cannot be used; the message says why.
    """

    def __init__(
        self,
        servers: RunningServers,
        model: CausalLM,
        codec: Codec,
        sync: WeightSync,
        config: EngineConfig = _DEFAULTS,
        max_connections: int = 512,
    ) -> None:
        self.codec = codec
        self._admins = [SglangAdmin(url) for url in servers.urls]
        self._servers, self._sync, self._config = servers, sync, config
        self._run = uuid.uuid4().hex[:8]
        self._label = ""
        self._released = False
        self._behind: set[str] = set()  # URLs of servers that did not take the last weights
        self._weights = threading.RLock()  # held while weights are sent, and from release to publish
        self._closing = threading.Event()
        with ExitStack() as undo:
            undo.callback(self._close_servers)
            if config.release_memory:
                self._check_memory_saver()
            self._send_to_all(model, 0)
            self._policy = SGLangPolicy(
                servers.urls,
                codec,
                router=config.router,
                known=known_prompt(model, codec),
                timeout=config.timeout,
                max_connections=max_connections,
            )
            self._policy.expect(0, self._label)
            self._keeper = threading.Thread(target=self._look_after, name="at2po-servers", daemon=True)
            self._keeper.start()
            undo.pop_all()

    @property
    def version(self) -> int:
        """Of the weights that sample now."""
        return self._policy.version

    @property
    def stats(self) -> Stats:
        """Token counts, and how much of what prompts share was not computed again."""
        return self._policy.stats

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """See ``SGLangPolicy.generate``."""
        return await self._policy.generate(requests, sampling)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """See ``SGLangPolicy.run``."""
        return self._policy.run(work)

    def release(self) -> None:
        """Free the servers' memory if that was asked for; they sample nothing until ``publish``."""
        if not self._config.release_memory or self._released:
            return
        with self._weights:
            for server in self._admins:
                server.release_memory()
            self._released = True

    def publish(self, model: CausalLM, version: int) -> None:
        """Send the weights to every server that answers; the others get them before they are used again.

        Raises:
            PolicyUnavailable: none answers for ``patience`` seconds.
            PolicyError: a server refused the weights, in its words.
        """
        with self._weights:
            self._send_to_all(model, version)
            self._policy.expect(version, self._label)

    def clear_cache(self) -> None:
        """Forget cached states on every server that answers; the others have none.

        Raises:
            PolicyError: turns are being sampled.
        """
        for server in self._admins:
            try:
                server.flush_cache()
            except PolicyUnavailable as error:
                self._servers.note(str(error))

    def close(self) -> None:
        """End the connections, and the servers that this run started."""
        self._closing.set()
        self._keeper.join()
        self._policy.close()
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

    def _send_to_all(self, model: CausalLM, version: int) -> None:
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
        self._released, self._behind = False, set(missing)
        for error in missing.values():
            self._servers.note(f"{error}; going on without it until it is back")

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
            if (away := self._away()) and self._weights.acquire(blocking=False):
                try:
                    self._revive()
                    self._refresh(away)
                finally:
                    self._weights.release()

    def _away(self) -> Set[str]:
        """URLs of servers that may have other weights: all of them, where it is the router that meets trouble."""
        urls = {server.url for server in self._admins}
        troubled = self._policy.troubles.keys()
        return self._behind | troubled & urls if troubled <= urls else urls

    def _revive(self) -> None:
        for url in self._servers.urls:
            self._servers.revive(url)

    def _refresh(self, urls: Set[str]) -> None:
        """Send the weights to those servers that answer and have others."""
        if self._released:
            return
        for server in self._admins:
            if server.url not in urls:
                continue
            try:
                if server.weight_version() != self._label:
                    self._sync.send(server)
                    self._servers.note(f"{server.url} is back and has the weights again")
                self._behind.discard(server.url)
            except PolicyUnavailable:
                continue  # the next look may find it back
            except PolicyError as error:
                self._servers.note(f"{server.url} is not used: {error}")
