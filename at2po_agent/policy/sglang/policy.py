"""``SGLangPolicy``: samples turns from running SGLang servers, token ids in and token ids out."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import uvloop

from at2po_agent.policy.base import (
    Completion,
    Finish,
    PolicyError,
    PolicyUnavailable,
    Request,
    Sampling,
    Stats,
    check_requests,
)
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.prefixes import Prefixes
from at2po_agent.policy.sglang.check import KnownPrompt, check_distribution
from at2po_agent.policy.sglang.fleet import Fleet
from at2po_agent.policy.sglang.router import Router
from at2po_agent.policy.sglang.server import Answer, Server, ServerInfo, sampling_params
from at2po_agent.tasks import run_all
from search_backend.background import BackgroundLoop

Result = TypeVar("Result")

_IDLE_S = 4.0  # less than the 5 s after which a server closes a connection that nothing is sent on


@dataclass
class ServedStats(Stats):
    """``Stats``, and how much of what prompts share was not computed again.

    Sharable are the tokens with which an earlier prompt, or the sequence that became of it, began too, in the order of
    the calls and on whichever server: an engine with one unbounded cache would compute none of them again.
    """

    sharable_tokens: int = 0
    shared_tokens: int = 0  # of the sharable ones, those that were not computed again
    straddling: int = 0  # turns in whose middle the weights changed


class SGLangPolicy:
    """A ``Policy`` on SGLang servers that have the same weights.

    Requests of one tree go to one server, where their prefix is cached. A server that fails is left alone until it
    answers again, and its turns are sampled on the others. A server whose weights are not those of ``weight_version``
    is not used either, as one is that was started again and has those it began with.

    Calls may come from any thread and any event loop; connections are kept between them. Runs are not repeatable bit
    for bit, since float results depend on what else is in a server's batch, unless the servers were started with
    ``--enable-deterministic-inference``: then ``Request.key`` seeds the sampling.

    Args:
        urls: of the servers; ``http://HOST:PORT``.
        codec: of the model that they serve.
        router: URL of SGLang's own router before exactly these servers, which then decides where a turn is sampled.
        known: what the served model has to say after a known prompt.
        timeout: seconds without an answer after which a server counts as dead; where several turns are asked for
            together, since the last one that was done.
        concurrency: turns that are under way at the same time, all servers together; the others wait here, where the
            timeout does not count.

    Raises:
        PolicyUnavailable: no server answers.
        ValueError: ``concurrency`` is below 1.
        PolicyError: one is no SGLang server, has other weights than the others or than ``known`` tells of, or reports
            log-probabilities of another distribution than it samples from.
    """

    def __init__(
        self,
        urls: Sequence[str],
        codec: Codec,
        *,
        router: str = "",
        known: KnownPrompt | None = None,
        timeout: float = 600.0,
        concurrency: int = 512,
    ) -> None:
        self.codec, self.vocabulary = codec, (known and known.vocabulary) or codec.vocab_size
        self.version = 0
        self.stats = ServedStats()
        self._eos = sorted(codec.eos_ids)
        self._seen = Prefixes()
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}, at least 1 turn must run")
        self._slots = asyncio.Semaphore(concurrency)
        self._closed = False
        # asyncio's own loop takes a third of a turn's time.
        self._background = BackgroundLoop("at2po-sglang", new_loop=uvloop.new_event_loop)
        try:
            self._background.run(self._open(urls, router, timeout, concurrency))
            self._background.run(self._greet(known))
        except BaseException:
            self.close()
            raise

    @property
    def weight_version(self) -> str:
        """The label that the servers' weights must have."""
        return self._fleet.weight_version

    @property
    def urls(self) -> tuple[str, ...]:
        """Of the servers."""
        return tuple(server.url for server in self._servers)

    @property
    def troubles(self) -> dict[str, str]:
        """Why servers, or the router before them, are not used now, by URL."""
        return {server.url: server.trouble for server in self._fronts if server.trouble}

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Continue every prompt by one turn, results in the order of the requests.

        Raises:
            PolicyError: a request cannot be run, a server refuses it, or the policy is closed.
            PolicyUnavailable: no server with the expected weights answers.
        """
        check_requests(requests, sampling, vocabulary=self.vocabulary, positions=self.positions)
        if self._closed:
            raise PolicyError("the policy is closed")
        return await self._background.wait(run_all(self._one(request, sampling) for request in requests))

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a rollout on the event loop of the connections, where no turn waits for another thread."""
        return self._background.run(work)

    def expect(self, version: int, weight_version: str) -> None:
        """From now on only servers with the weights ``weight_version`` are used; ``version`` is their number here.

        The servers are taken to have forgotten what they had cached.
        """
        self._background.run(self._expect(version, weight_version))

    def clear_cache(self) -> None:
        """Make the servers that answer forget what they have cached.

        Raises:
            PolicyError: turns are being sampled there.
        """
        self._background.run(self._flush())

    def close(self) -> None:
        """End calls and connections; the servers stay."""
        if not self._closed:
            self._closed = True
            self._background.close(self._shut)

    async def _open(self, urls: Sequence[str], router: str, timeout: float, concurrency: int) -> None:
        connector = aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=_IDLE_S)
        # Servers set no cookies, and looking for some takes time at every request.
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        self._servers = [Server(url, self._session, timeout) for url in urls]
        self._fronts = [Router(router, self._servers, self._session, timeout)] if router else self._servers
        for front in {*self._servers, *self._fronts}:
            front.vocabulary = self.vocabulary
        self._fleet = Fleet(self._fronts, lambda server: check_distribution(server, self.codec, None))

    async def _greet(self, known: KnownPrompt | None) -> None:
        infos: dict[Server, ServerInfo] = {}
        for server in self._servers:
            try:
                infos[server] = await server.info()
                await check_distribution(server, self.codec, known)
            except PolicyUnavailable as error:
                server.trouble = str(error)
        if not infos:
            raise PolicyUnavailable("; ".join(str(server.trouble) for server in self._servers))
        for router in set(self._fronts).difference(self._servers):
            await check_distribution(router, self.codec, known)
        versions = {info.weight_version for info in infos.values()}
        if len(versions) > 1:
            told = ", ".join(f"{server.url} {info.weight_version!r}" for server, info in infos.items())
            raise PolicyError(f"the servers have different weights: {told}; load the same into all of them")
        self._versions = dict.fromkeys(versions, self.version)
        self._fleet.expect(*versions)
        self.positions = min(info.max_prompt_tokens for info in infos.values())
        self._seeds = all(info.seeds for info in infos.values())

    async def _shut(self) -> None:
        for server in self._fronts:
            await server.settle()
        await self._session.close()

    async def _expect(self, version: int, weight_version: str) -> None:
        self.version = self._versions[weight_version] = version
        self._fleet.expect(weight_version)
        self._seen.clear()

    async def _flush(self) -> None:
        for server in self._servers:
            try:
                await server.flush()
            except PolicyUnavailable as error:
                server.trouble = str(error)
        for front in self._fronts:
            front.forget()
        self._seen.clear()

    async def _one(self, request: Request, sampling: Sampling) -> Completion:
        prompt = request.prompt
        sharable = min(self._seen.match(prompt)[0], len(prompt) - 1)
        self._seen.add(prompt)
        params = sampling_params(request, sampling, self._eos, _seed(request.key) if self._seeds else None)
        async with self._slots:
            answer = await self._fleet.generate(request, params, sampling.top_logprobs)
        self._seen.add((*prompt, *answer.ids[:-1]))
        stats = self.stats
        stats.prompt_tokens += len(prompt)
        stats.prefilled_tokens += len(prompt) - answer.cached_tokens
        stats.generated_tokens += len(answer.ids)
        stats.sharable_tokens += sharable
        stats.shared_tokens += min(sharable, answer.cached_tokens)
        stats.straddling += len(answer.weight_versions) > 1
        return self._completion(answer, sampling)

    def _completion(self, answer: Answer, sampling: Sampling) -> Completion:
        end = self._first_stop(answer.ids, sampling.stop)
        finish: Finish = "length"
        if end < len(answer.ids) or isinstance(answer.matched, str):
            finish = "stop"
        elif answer.finish == "stop":
            finish = "eos"
        return Completion(
            ids=answer.ids[:end],
            logprobs=answer.logprobs[:end],
            finish=finish,
            top_logprobs=answer.top_logprobs[:end],
            version=self._versions.get(answer.weight_versions[0], self.version),
            straddles=len(answer.weight_versions) > 1,
        )

    def _first_stop(self, ids: tuple[int, ...], stop: tuple[str, ...]) -> int:
        """Where a stop string is first complete; ``len(ids)`` if it is nowhere before.

        The server decodes only as many of the last tokens as the stop string's own encoding has, so it overlooks one
        that the model spelled in more tokens, and samples on.
        """
        for end in range(len(ids), 1, -1):
            before = self.codec.decode_action(ids[: end - 1])
            if not any(text in before for text in stop):
                return end
        return min(len(ids), 1)


def _seed(key: tuple[int, ...]) -> int:
    """63 bits that depend on all of ``key``."""
    return int.from_bytes(hashlib.blake2b(",".join(map(str, key)).encode(), digest_size=8).digest(), "big") >> 1
