"""A chat endpoint as the policy of one tree: ``grow`` sees ids, the endpoint messages.

Ids are local to the tree. Every token of an answer is one, with its log-probability; so is every prompt and every
observation. The id that ends a turn is the turn's own: it says which conversation a prompt that goes on from it means.
So a fork is a snapshot of the environment and a prefix of messages.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from at2po_agent.judge.config import JudgeConfig
from at2po_agent.judge.endpoint.client import Call, ChatEndpoint
from at2po_agent.judge.endpoint.conversation import TagConversation, converse
from at2po_agent.judge.endpoint.refusals import ContextFull, EndpointError
from at2po_agent.judge.endpoint.replies import Reply, tokens_behind
from at2po_agent.policy.base import Completion, PolicyError, PolicyUnavailable, Request, Sampling
from at2po_env.state import Text
from at2po_env.tasks import TaskEnv

LOGPROBS = 1  # alternatives that are asked for: llama.cpp's server gives no log-probabilities with 0


class EndpointLost(PolicyError):
    """The endpoint could not answer, however often it was tried."""


class NoLogprob(PolicyError):
    """An answer lacks the log-probability of one of its tokens."""


@dataclass(frozen=True)
class SampledTurn:
    """One turn as the endpoint sampled it."""

    path: int  # which path of the question sampled it
    action: str
    reply: Reply
    conversation: TagConversation  # with this turn


class TreePolicy:
    """The policy and the encoder of one tree; see ``rollouts.grow.Actor``.

    Args:
        env: reset to the question.
        endpoint: of the model.
        config: seed, temperature and limits.
        first: number of the tree's first path among those of the question; it varies the seed.
    """

    def __init__(self, env: TaskEnv[Any], endpoint: ChatEndpoint, config: JudgeConfig, first: int = 0) -> None:
        self.endpoint, self.config, self.first = endpoint, config, first
        self._task_id: str = env.info()["task_id"]
        self.turns: dict[int, SampledTurn] = {}  # by the id that ends them
        self._start = converse(env)
        self._pieces: list[bytes] = []  # by id, what it adds to a turn
        self._tokens: dict[bytes, int] = {}
        self._observations: dict[int, Text] = {}

    def prompt(self, text: Text) -> tuple[int, ...]:
        """One id for the first message."""
        return (self._new(b""),)

    def observation(self, text: Text) -> tuple[int, ...]:
        """One id for what the model reads next."""
        id_ = self._new(b"")
        self._observations[id_] = text
        return (id_,)

    def decode_action(self, ids: Sequence[int]) -> str:
        """The text of a sampled turn."""
        return b"".join(self._pieces[id_] for id_ in ids).decode()

    def opened_thought(self, prompt: Sequence[int]) -> str:
        """Nothing: whether an endpoint's template opens thoughts shows only in its replies."""
        return ""

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Ask for every turn; the endpoint's own limits say how many at a time.

        Raises:
            EndpointLost: it could not answer.
            NoLogprob: it gave no log-probability with a token.
            Refusal: it refuses the question.
            EndpointError: it gives no log-probabilities, or no request can work.
        """
        return list(await asyncio.gather(*(self._turn(request, sampling) for request in requests)))

    async def _turn(self, request: Request, sampling: Sampling) -> Completion:
        conversation, before = self._conversation(request.prompt)
        room = min(request.max_new_tokens, self._room(before))
        reply = None
        if room >= 1:
            call = Call(
                messages=tuple(conversation.messages),
                max_tokens=room,
                temperature=sampling.temperature,
                stop=conversation.stop,
                seed=self._seed(request.key) if sampling.temperature > 0 else None,
                sample=self.first + request.key[-2],
                tools=conversation.tools,
                top_logprobs=LOGPROBS,
            )
            try:
                reply = await self.endpoint.complete(call)
            except PolicyUnavailable as error:  # it was tried often enough
                raise EndpointLost(str(error)) from error
            except ContextFull:
                if before is None:
                    raise
        return self._completion(request, conversation, reply or Reply(text="", finish="length", logprobs=()))

    def _conversation(self, prompt: tuple[int, ...]) -> tuple[TagConversation, SampledTurn | None]:
        """The messages that a prompt stands for, and the turn that it follows."""
        before = self.turns[prompt[-2]] if len(prompt) > 1 else None
        base = self._start if before is None else before.conversation
        conversation = copy.copy(base)
        conversation.messages = list(base.messages)
        if before is not None:
            conversation.observe(self._observations[prompt[-1]])
        return conversation, before

    def _room(self, before: SampledTurn | None) -> int:
        """Tokens that may still be generated on a path, as the endpoint counts them; see ``episodes.play``."""
        most = self.config.limits.max_response_tokens
        if before is None:
            return most
        prompts = [turn.reply.prompt_tokens for turn in self.turns.values() if turn.reply.prompt_tokens]
        return most - tokens_behind(min(prompts, default=None), before.reply)

    def _seed(self, key: tuple[int, ...]) -> int:
        address = f"{self.config.seed} {self._task_id} {self.first + key[-2]} {key[-1]}"
        return int.from_bytes(hashlib.sha256(address.encode()).digest()[:4]) >> 1

    def _completion(self, request: Request, conversation: TagConversation, reply: Reply) -> Completion:
        if reply.logprobs is None and (reply.completion_tokens or reply.text):
            raise EndpointError(no_logprobs(self.endpoint))
        tokens, action = reply.logprobs or (), conversation.take(reply)
        if not reply.completion_tokens:  # where the endpoint does not count
            reply = dataclasses.replace(reply, completion_tokens=len(tokens))
        pieces = split_text(action.encode(), [_bytes(token) for token in tokens]) or [b""]
        logprobs = [self._logprob(token) for token in tokens[: len(pieces)]] or [0.0]
        end = self._new(pieces[-1])
        self.turns[end] = SampledTurn(self.first + request.key[-2], action, reply, conversation)
        ids = (*(self._token(piece) for piece in pieces[:-1]), end)
        return Completion(ids, tuple(logprobs), "length" if reply.finish == "length" else "stop")

    def _logprob(self, token: Mapping[str, Any]) -> float:
        given = token.get("logprob")
        if not isinstance(given, int | float) or not math.isfinite(given):
            what = f"{self.endpoint.model.base_url} gives no log-probability with the token {token.get('token')!r}"
            raise NoLogprob(f"{what} but {given!r}")
        return float(given)

    def _token(self, piece: bytes) -> int:
        if piece not in self._tokens:
            self._tokens[piece] = self._new(piece)
        return self._tokens[piece]

    def _new(self, piece: bytes) -> int:
        self._pieces.append(piece)
        return len(self._pieces) - 1


def split_text(text: bytes, tokens: Sequence[bytes]) -> list[bytes]:
    """``text`` in as many pieces as there are tokens up to its end, so that each has a log-probability.

    A stop string that the endpoint left out belongs to the last token; tokens behind a stop string go. Where the text
    is not what the tokens say (the endpoint took thoughts or calls out of it), the last token gets all of it.
    """
    said = b""
    for count, token in enumerate(tokens, start=1):
        said += token
        if len(said) >= len(text) and said.startswith(text):
            last = len(said) - len(token)
            return [*tokens[: count - 1], text[last:]]
    if not tokens:
        return [text] if text else []
    if text.startswith(said):
        return [*tokens[:-1], tokens[-1] + text[len(said) :]]
    return [*[b""] * (len(tokens) - 1), text]


def no_logprobs(endpoint: ChatEndpoint) -> str:
    """The error message for an endpoint that returns no log-probabilities."""
    return (
        f"{endpoint.model.base_url} gives no log-probabilities with its answers (logprobs) for model "
        f"{endpoint.model.name!r}, and --tree branches where they say that the model is uncertain: serve it so that it "
        "does, or leave --tree out"
    )


def _bytes(token: Mapping[str, Any]) -> bytes:
    given = token.get("bytes")
    return bytes(given) if isinstance(given, list) else str(token.get("token", "")).encode("utf-8", "replace")
