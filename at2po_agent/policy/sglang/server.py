"""One SGLang server: its native ``/generate`` with token ids in and out, and what its errors mean.

Request and answer are those of SGLang 0.5 (docs.sglang.ai, "Sampling Parameters"). Every parameter that shapes the
distribution is sent, since a server may have other defaults, and the turn is sampled from the whole softmax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from at2po_agent.policy.base import PolicyError, PolicyUnavailable, Request, Sampling
from at2po_agent.policy.prefixes import Ids
from at2po_agent.policy.sglang.batcher import MOST_TOGETHER, Batcher
from at2po_agent.policy.sglang.read_ahead import ReadAhead
from at2po_agent.policy.sglang.transport import BadAnswer, Transport
from search_backend.outside import MOST_COUNT, count, counts, logprobs, shown

_FLUSH_S = 5  # for the server to see that the last turn is done
_WHOLE_SOFTMAX = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "repetition_penalty": 1.0,
    "min_new_tokens": 0,
    "skip_special_tokens": False,
}


_LONGEST_VERSION = 1000  # characters


class Aborted(PolicyUnavailable):
    """The server gave a turn up before its end, as it does when its weights are updated."""


@dataclass(frozen=True)
class Answer:
    """A server's answer to one prompt."""

    ids: tuple[int, ...]  # with the stop's own tokens
    logprobs: tuple[float, ...]  # [len(ids)], nats, after temperature
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...]  # [len(ids)][k] of (id, logprob); () if not asked for
    finish: str  # stop or length
    matched: int | str | None  # the token id or the string that ended it
    cached_tokens: int  # of the prompt, that were not computed again
    weight_versions: tuple[str, ...]  # of the weights that sampled it, in order


@dataclass(frozen=True)
class ServerInfo:
    """A server's description of itself."""

    weight_version: str
    max_prompt_tokens: int
    seeds: bool  # sampling can be seeded per request


def sampling_params(request: Request, sampling: Sampling, eos_ids: Sequence[int], seed: int | None) -> dict[str, Any]:
    """The ``sampling_params`` of a request."""
    params = _WHOLE_SOFTMAX | {
        "temperature": sampling.temperature,
        "max_new_tokens": request.max_new_tokens,
        "stop": list(sampling.stop),
        "stop_token_ids": list(eos_ids),
    }
    return params if seed is None else params | {"sampling_seed": seed}


class Server:
    """A server's address, whether it can be used, and what is under way there.

    Args:
        url: ``http://HOST:PORT``.
        session: of the event loop that everything here runs on.
        timeout: seconds that a request may go without an answer once it is sent.
        together: turns that are ready at the same time and may be sent as one request.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, timeout: float, together: int = MOST_TOGETHER) -> None:
        self.trouble: str | None = None  # why it is not used now
        self.running = 0  # turns under way
        self.vocabulary = MOST_COUNT  # token ids are below it; set by whoever knows the model
        self._transport = Transport(url, session, timeout)
        self.url = self._transport.url
        self._batcher = Batcher(self._transport, self.abort, together)
        self._ahead = ReadAhead(self._prefill)

    async def generate(
        self, prompt: Ids, params: Mapping[str, Any], *, top_logprobs: int = 0, where: str = ""
    ) -> Answer:
        """Sample one turn; a turn that nobody waits for any more is aborted on the server.

        Raises:
            PolicyError: the server refuses the request; ``where`` stands in the message.
            Aborted: the server gave it up.
            BadAnswer: it answered something else than a turn of the vocabulary with its log-probabilities.
            PolicyUnavailable: there is no answer in time, no connection, or the server is in trouble.
        """
        body = _body(prompt, params, logprobs=True, top_logprobs=top_logprobs)
        self.running += 1
        try:
            await self._ahead.ready(prompt)
            answer = _read(await self._batcher.generate(body, where), self.url, top_logprobs)
            _check(answer, self.url, self.vocabulary, params["max_new_tokens"], top_logprobs)
            return answer
        finally:
            self.running -= 1

    async def info(self) -> ServerInfo:
        """Ask the server what it is.

        Raises:
            PolicyUnavailable: it does not answer.
            PolicyError: it is not an SGLang server.
        """
        told = await self._transport.get("/server_info")
        version = await self.weight_version()  # what it is told there is the one of the server's start
        try:
            seeds = told["enable_deterministic_inference"]
            if not isinstance(seeds, bool):
                raise ValueError(f"enable_deterministic_inference but {shown(seeds)}")
            return ServerInfo(version, count(told["max_req_input_len"], "max_req_input_len"), seeds)
        except (KeyError, TypeError, ValueError) as error:
            raise PolicyError(
                f"{self.url} is not an SGLang server that this version knows: its answer has no {error}"
            ) from error

    async def weight_version(self) -> str:
        """The version of the weights that the server has now.

        Raises:
            PolicyUnavailable: it does not answer.
        """
        return read_weight_version(await self._transport.get("/model_info"), self.url)

    async def flush(self) -> None:
        """Make the server forget the states of earlier sequences.

        Raises:
            PolicyError: turns are being sampled.
            PolicyUnavailable: it does not answer.
        """
        await self._transport.post(f"/flush_cache?timeout={_FLUSH_S}", {}, "the cache cannot be emptied")
        self.forget()

    def forget(self) -> None:
        """The cache was emptied, or the weights changed."""
        self._ahead.forget()

    async def abort(self, rid: str) -> None:
        """Give a turn up; a server that cannot be told has also lost the connection that it would answer on."""
        await self._transport.tell("/abort_request", {"rid": rid})

    async def settle(self) -> None:
        """Wait until the aborts that were begun are sent."""
        await self._batcher.settle()

    async def _prefill(self, prompt: Ids) -> None:
        await self._batcher.generate(_body(prompt, {"max_new_tokens": 0}))


def read_weight_version(told: object, url: str) -> str:
    """The label of a server's weights in its answer to ``/model_info``; "None" where it has none.

    Raises:
        BadAnswer: it is no such answer.
    """
    version = told.get("weight_version") if isinstance(told, dict) else told
    if not isinstance(told, dict) or not isinstance(version, str | None) or len(version or "") > _LONGEST_VERSION:
        raise BadAnswer(f"{url}/model_info answered no version of weights but {shown(version)}")
    return str(version)


def _body(prompt: Ids, params: Mapping[str, Any], *, logprobs: bool = False, top_logprobs: int = 0) -> dict[str, Any]:
    return {
        "input_ids": prompt,
        "sampling_params": params,
        "return_logprob": logprobs,
        "logprob_start_len": -1,  # of the output alone: input log-probabilities switch the prefix cache off
        "top_logprobs_num": top_logprobs,
    }


def _read(told: Any, url: str, top_logprobs: int) -> Answer:
    try:
        meta = told["meta_info"]
        finish = meta["finish_reason"]
        if finish["type"] == "abort":
            why = finish.get("message")
            raise Aborted(f"{url} aborted the turn: {why[:300] if isinstance(why, str) else 'no reason given'}")
        spans = meta.get("weight_versions") or [{"version": meta["weight_version"]}]
        values, reported = _columns(meta["output_token_logprobs"])
        answer = Answer(
            ids=counts(told["output_ids"], "a token id"),
            logprobs=logprobs(values, "a log-probability"),
            top_logprobs=tuple(map(_likely, meta.get("output_top_logprobs") or ())) if top_logprobs else (),
            finish=finish["type"],
            matched=finish.get("matched"),
            cached_tokens=count(meta["cached_tokens"], "cached_tokens"),
            weight_versions=tuple(dict.fromkeys(_version(span["version"]) for span in spans)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__} {error}"
        raise BadAnswer(f"{url} answered what is not SGLang's /generate: {why}") from error
    if answer.ids != reported:
        raise BadAnswer(f"{url} reports log-probabilities of other tokens than it sampled")
    return answer


def _columns(entries: Sequence[Sequence[object]]) -> tuple[Sequence[object], Sequence[object]]:
    """Log-probabilities and token ids of entries ``[logprob, id, text]``."""
    if not entries:
        return (), ()
    values, ids, _ = zip(*entries, strict=True)
    return values, ids


def _version(told: object) -> str:
    if not isinstance(told, str | None):
        raise TypeError(f"a version of weights is {shown(told)}")
    return str(told)


def _likely(entry: Any) -> tuple[tuple[int, float], ...]:
    values, ids = _columns(entry)
    return tuple(zip(counts(ids, "a token id"), logprobs(values, "a log-probability"), strict=True))


def _check(answer: Answer, url: str, vocabulary: int, most: int, top_logprobs: int) -> None:
    """Raise BadAnswer unless the answer is one to what was asked."""
    wrong = ""
    if not 1 <= len(answer.ids) <= most:
        wrong = f"{len(answer.ids)} tokens where 1 to {most} were asked for"
    elif max(answer.ids) >= vocabulary:
        wrong = f"token {max(answer.ids)}, and the model has {vocabulary}"
    elif answer.finish not in ("stop", "length") or not isinstance(answer.matched, int | str | None):
        wrong = f"a turn that ended by {shown(answer.finish)}, {shown(answer.matched)}"
    elif top_logprobs and (len(answer.top_logprobs) != len(answer.ids) or not all(answer.top_logprobs)):
        wrong = "no likely tokens for some that it sampled"
    if wrong:
        raise BadAnswer(f"{url} answered {wrong}")
