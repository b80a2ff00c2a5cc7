"""``SGLangEngine``: SGLang servers as the engine of a trainer, for one process or several that share the servers."""

from __future__ import annotations

import platform
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from typing import Any, Protocol, TypeVar

from at2po_agent.policy.base import CausalLM, Completion, PolicyError, PolicyUnavailable, Request, Sampling, Stats
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.engine import EngineConfig
from at2po_agent.policy.sglang.check import known_prompt
from at2po_agent.policy.sglang.policy import SGLangPolicy
from at2po_agent.policy.sglang.publisher import Publisher

Result = TypeVar("Result")

_DEFAULTS = EngineConfig(kind="sglang")
_SAME_SERVERS = (
    "every process of a run samples, so the addresses in engine.urls, or engine.launch.host, must be those of the same "
    "servers on all hosts"
)


class Lead(Protocol):
    """Do work in the first process of a run, and return in all of them what it returned there."""

    def __call__(self, work: Callable[[], Result], /) -> Result:
        """Call ``work`` in the first process; the others wait for it."""
        ...


def alone(work: Callable[[], Result]) -> Result:
    """``Lead`` of a run of one process."""
    return work()


class SGLangEngine:
    """An ``Engine`` on one or more SGLang servers.

    Each process samples its own turns through connections of its own. The first process alone controls the servers: its
    publisher sends the weights, and all wait until they are there. The policy checks their label on every completion.

    Args:
        model: that is trained; the servers must give its answer to a known prompt.
        codec: its tokenizer.
        publisher: of the first process, closed with the engine; None in the others.
        config: ``router`` (before exactly these servers; weights do not go through it) and ``timeout``.
        concurrency: turns of this process that are under way at the same time.
        lead: by which the processes of the run meet.

    Raises:
        PolicyUnavailable: no server answers.
        PolicyError: the servers cannot be used; the message says why.
    """

    def __init__(
        self,
        model: CausalLM,
        codec: Codec,
        publisher: Publisher | None,
        config: EngineConfig = _DEFAULTS,
        concurrency: int = 512,
        lead: Lead = alone,
    ) -> None:
        self.codec = codec
        self._publisher, self._lead = publisher, lead
        with ExitStack() as undo:
            if publisher is not None:
                undo.callback(publisher.close)
            urls, label, known = self._ask_publisher(lambda one: (one.urls, one.label, known_prompt(model, codec)))
            try:
                self._policy = SGLangPolicy(
                    urls,
                    codec,
                    router=config.router,
                    known=known,
                    timeout=config.timeout,
                    concurrency=concurrency,
                )
            except PolicyUnavailable as error:
                if publisher is not None:
                    raise
                raise PolicyUnavailable(f"{error}, from {platform.node()}: {_SAME_SERVERS}") from error
            undo.callback(self._policy.close)
            if self._policy.weight_version != label:
                raise PolicyError(
                    f"{', '.join(urls)}: other servers on {platform.node()} than on the first host, as they have the "
                    f"weights {self._policy.weight_version!r}, not {label!r}; {_SAME_SERVERS}"
                )
            self._policy.expect(0, label)
            undo.pop_all()

    @property
    def version(self) -> int:
        """Of the weights that sample now."""
        return self._policy.version

    @property
    def stats(self) -> Stats:
        """Token counts of this process, and how much of what its prompts share was not computed again."""
        return self._policy.stats

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """See ``SGLangPolicy.generate``."""
        return await self._policy.generate(requests, sampling)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """See ``SGLangPolicy.run``."""
        return self._policy.run(work)

    def release(self) -> None:
        """Free the servers' memory if that was asked for; they sample nothing until ``publish``."""
        self._ask_publisher(Publisher.release)

    def publish(self, model: CausalLM, version: int) -> None:
        """Send the weights to every server that answers; the others get them before they are used again.

        Raises:
            PolicyUnavailable: none answers for ``patience`` seconds.
            PolicyError: a server refused the weights, in its words.
        """
        self._policy.expect(version, self._ask_publisher(lambda one: one.publish(model, version)))

    def clear_cache(self) -> None:
        """Forget cached states on every server that answers; the others have none.

        Raises:
            PolicyError: turns are being sampled.
        """
        self._lead(self._policy.clear_cache)
        # The other processes too send again what their prompts share.
        self._policy.expect(self._policy.version, self._policy.weight_version)

    def close(self) -> None:
        """End the connections; in the first process also the servers that this run started."""
        self._policy.close()
        if self._publisher is not None:
            self._publisher.close()

    def _ask_publisher(self, work: Callable[[Publisher], Result]) -> Result:
        """``work`` on the publisher in the process that has it; all get what it returns."""

        def here() -> Result:
            assert self._publisher is not None
            return work(self._publisher)

        return self._lead(here)
