"""Chat completions of an OpenAI-compatible endpoint, through the official client, with our retries and limits."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from at2po_agent.judge.config import LimitConfig, ModelConfig, split_query
from at2po_agent.judge.endpoint.context import ask_what_fits, without_omitted
from at2po_agent.judge.endpoint.key import Key
from at2po_agent.judge.endpoint.pacing import Pacer
from at2po_agent.judge.endpoint.refusals import EndpointError, Refusal, Unsupported, moved_to, read_refusal
from at2po_agent.judge.endpoint.replies import Garbage, Reply, cut_in_reasoning, read_reply
from at2po_agent.judge.endpoint.response_cache import ResponseCache
from at2po_agent.judge.endpoint.thoughts import OpenedThoughts
from at2po_agent.policy.base import PolicyUnavailable
from at2po_agent.rollouts.outages import Outages
from search_backend.open_files import limit_reached
from search_backend.outside import Unusable, read_json
from search_backend.retry import OVERLOADED, Backoff

PATIENCE_SECONDS = 5.0  # without an answer to anybody, before it is said: that a few requests fail is ordinary
_UNREACHED_PAUSE = 1.0  # seconds between tries to reach a server that may be starting
_UNREACHED = ("ConnectError", "ConnectTimeout")  # of the client's own library: there was no connection at all


@dataclass(frozen=True)
class Call:
    """One request to an endpoint."""

    messages: Sequence[Mapping[str, Any]]
    max_tokens: int
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None  # for endpoints that can repeat a sample
    sample: int = 0  # which of several equal requests this is; it keeps their cached answers apart
    tools: tuple[Mapping[str, Any], ...] = ()
    top_logprobs: int | None = None  # alternatives per token; None asks for no log-probabilities

    def fields(self) -> dict[str, Any]:
        """As the endpoint's fields."""
        known: dict[str, Any] = {
            "messages": list(self.messages),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        if self.stop:
            known["stop"] = list(self.stop)
        if self.seed is not None:
            known["seed"] = self.seed
        if self.tools:
            known["tools"] = list(self.tools)
        if self.top_logprobs is not None:
            known |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        return known


class ChatEndpoint:
    """An endpoint that answers chat completions. Close it, or use it as an asynchronous context manager.

    Args:
        model: name, address and the variable of the key.
        limits: of requests and retries.
        concurrency: requests at a time, at most; fewer while the endpoint says that it is overloaded.
        request: fields that are added to every request; null or ``omit`` leaves one out.
        cache: keeps answers, and gives them without a request.
        outages: says that the endpoint does not answer.

    Raises:
        ConfigError: there is no key where one is named.
    """

    def __init__(
        self,
        model: ModelConfig,
        limits: LimitConfig,
        *,
        concurrency: int = 1,
        request: Mapping[str, Any] | None = None,
        cache: ResponseCache | None = None,
        outages: Outages | None = None,
    ) -> None:
        from openai import AsyncOpenAI, Timeout

        from at2po_agent.judge.endpoint.http_client import BoundedClient

        assert model.base_url is not None
        address, query = split_query(model.base_url)
        self.model, self.limits = model, limits
        self.pacer = Pacer(concurrency)
        self.renamed: dict[str, str | None] = {}  # fields that the endpoint does not know: its own name, None for none
        self._key = Key.of(model.key_var)
        self._extra = dict(request or {})
        self._cache = cache
        self._thoughts = OpenedThoughts()
        self._outages = outages or Outages()
        self._answered = self._reached = False  # at least once
        self._give_up_at = math.inf  # on the loop's clock, if nothing was reached until then
        self._client = AsyncOpenAI(
            base_url=address,
            default_query=query,
            # Azure takes a key in a header of its own.
            default_headers={"api-key": self._key.value} if query and self._key.value else None,
            api_key=self._key.value or "none",
            organization="",  # not the one in the environment: it is another endpoint's business
            project="",
            max_retries=0,
            # A key is for the address that was given: where that has moved to is for the user to say.
            http_client=BoundedClient(limits.answer_bytes),
            timeout=Timeout(
                limits.request_seconds, connect=min(max(1.0, limits.wait_seconds), 30.0, limits.request_seconds)
            ),
        )

    async def complete(self, call: Call) -> Reply:
        """Answer the conversation, with retries where trying again may help.

        What a stop string ended inside the reasoning is asked for again without stop strings.

        Raises:
            EndpointError: nothing can be asked of this endpoint, such as with a wrong key, model or address.
            Refusal: it refuses this request; ``ContextFull`` where the conversation is too long for it. Where only
                ``max_tokens`` does not fit, what fits is asked for, once.
            PolicyUnavailable: it could not answer, however often it was tried.
        """
        fields = {"model": self.model.name, **without_omitted({**call.fields(), **self._extra})}
        if self._thoughts.open:
            fields.pop("stop", None)
        reply = await self._reply(call, fields)
        stop = () if "stop" in self.renamed else fields.pop("stop", ())

        async def whole() -> Reply:
            # Without stop strings the reasoning comes to its end; whoever reads the reply cuts it, and none ended it.
            return replace(await self._reply(call, fields), matched="")

        if stop and cut_in_reasoning(reply, stop):
            reply = await whole()
            stop = ()
        return await self._thoughts.settle(reply, stop, whole)

    async def _reply(self, call: Call, fields: Mapping[str, Any]) -> Reply:
        address = (self.model.base_url, fields, call.sample)
        if self._cache is not None and (kept := self._cache.get(address)) is not None:
            with suppress(Unusable):  # a damaged row is replaced
                return read_reply(kept, 0.0)
        body, seconds = await ask_what_fits(self._try, fields)
        reply = read_reply(body, seconds)
        if self._cache is not None:
            self._cache.put(address, body)
        return reply

    async def _try(self, fields: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        backoff = Backoff(self.limits.retry_seconds, self.limits.max_retry_seconds, random.Random())
        path, failures, now = object(), 0, asyncio.get_running_loop().time
        self._give_up_at = min(self._give_up_at, now() + self.limits.wait_seconds)
        while True:
            async with self.pacer.slot() as started_in:
                try:
                    started = time.perf_counter()
                    body = await self._once(fields)
                    self.pacer.went_well()
                    self._outages.answered("endpoint")
                    self._answered = True
                    return body, time.perf_counter() - started
                except Unsupported as error:
                    self.renamed[error.field] = error.instead
                    continue
                except _Again as error:
                    failures += 1
                    self._check_pause(error)
                    # The server's own Retry-After is the least that is waited.
                    wait = error.asked + backoff.pause(failures)
                    if error.overload:
                        self.pacer.overloaded(started_in, error.asked)
                    over = failures > self.limits.retries
                    if not self._reached:
                        over = now() >= self._give_up_at
                        wait = min(wait, _UNREACHED_PAUSE, max(0.0, self._give_up_at - now()))
                    if over:
                        self._outages.gave_up("endpoint", path, error, failures)
                        raise self._lost(error, failures) from None
                    self._outages.failed("endpoint", path, error, round(wait, 1), PATIENCE_SECONDS)
            await asyncio.sleep(wait)

    def _check_pause(self, error: _Again) -> None:
        limit = self.limits.max_retry_after_seconds
        if error.asked > limit:
            raise EndpointError(
                f"{self.model.base_url} asks for a pause of {error.asked:,.0f} s ({error}), longer than "
                f"limits.max_retry_after_seconds={limit:g}. Continue later with --resume, or raise the limit to "
                "wait for it"
            ) from None
        if error.asked > PATIENCE_SECONDS:
            self._outages.paused(self.model.base_url or "", error, error.asked)

    def _lost(self, error: Exception, tries: int) -> Exception:
        often = "once" if tries == 1 else f"{tries} times"
        if not self._reached:  # whatever is asked next would fail as this did
            return EndpointError(
                f"{self.model.base_url} cannot be reached, tried {often} in {self.limits.wait_seconds:g} s: {error}. "
                "Check the address (-b), and that the server runs; --wait SECONDS waits longer for one that starts"
            )
        return PolicyUnavailable(f"{self.model.base_url}, tried {often}: {error}")

    async def _once(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        import openai

        sent = {wire: value for name, value in fields.items() if (wire := self.renamed.get(name, name)) is not None}
        # A refusal is of the names that this request had: others may have been refused since it was sent.
        names = frozenset(sent)
        try:
            async with (
                asyncio.timeout(self.limits.request_seconds),
                self._client.chat.completions.with_streaming_response.create(
                    model=sent.pop("model"), messages=sent.pop("messages"), extra_body=sent
                ) as response,
            ):
                self._reached = True
                body = self._key.hide_in_bytes(await response.read())
            return _as_answer(body)
        except openai.APIStatusError as error:
            self._reached = True
            told = _error_of(error.response.content)
            raise self._refused(error.status_code, told, error.response.headers, names) from None
        except (TimeoutError, openai.APIConnectionError) as error:
            unreached = type(error.__cause__).__name__ in _UNREACHED
            self._reached |= not unreached
            if isinstance(error, TimeoutError | openai.APITimeoutError) and not unreached:
                raise _Again(f"no complete answer within {self.limits.request_seconds:g} s") from None
            raise _Again(f"the connection failed ({self._cause(error)})") from None
        except Unusable as error:
            self._reached = True
            if isinstance(error, Garbage) and error.status is not None:
                raise self._refused(error.status, error.body, {}, names) from None
            raise _Again(str(error)) from None

    def _refused(self, status: int, body: object, headers: Mapping[str, str], names: Container[str]) -> Exception:
        if 300 <= status < 400:
            to = self._key.hide_in(moved_to(self.model.base_url or "", headers.get("location", "")))
            return EndpointError(f"{self.model.base_url} answers HTTP {status}: it has moved to {to}, give it with -b")
        refusal = read_refusal(status, body, headers)
        shown = _shorten(self._key.hide_in(refusal.said))  # in this order: a key that is cut is not found
        said = f"HTTP {status}: {shown}" if shown else f"HTTP {status}"
        if refusal.again or (status == 200 and self._answered):
            return _Again(said, asked=refusal.asked, overload=status in OVERLOADED)
        if refusal.unsupported is not None and refusal.unsupported.field in names:
            return refusal.unsupported
        where = f"{self.model.base_url} refuses model {self.model.name!r}"
        if refusal.final or not (self._answered or refusal.kind is not Refusal):
            return EndpointError(f"{where} with {said}. {refusal.advice}".rstrip())
        return refusal.kind(f"{self.model.base_url} refuses a request with {said}", refusal.said)

    def _cause(self, error: BaseException) -> str:
        if limit := limit_reached(error):
            return limit
        cause = error.__cause__ or error
        return self._key.hide_in(f"{type(cause).__name__}: {cause}".rstrip(": "))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def __aenter__(self) -> ChatEndpoint:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


class _Again(Exception):
    """A request that may work when it is tried again."""

    def __init__(self, said: str, *, asked: float = 0.0, overload: bool = False) -> None:
        super().__init__(said)
        self.asked, self.overload = asked, overload


def _shorten(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]}…"


def _as_answer(body: bytes) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = read_json(body)
    except Unusable as error:
        start = body[:80].decode("utf-8", "replace").strip()
        raise Garbage(f"the answer is {error}: {start!r}" if start else "the answer is empty") from None
    read_reply(answer, 0.0)
    return answer


def _error_of(body: bytes) -> object:
    """The JSON of an error's body, or its text."""
    try:
        return read_json(body)
    except Unusable:
        return body.decode("utf-8", "replace")
