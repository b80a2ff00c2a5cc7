"""One episode: a model at a chat endpoint in an environment, to a record of everything that happened."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from at2po_agent.judge.config import JudgeConfig
from at2po_agent.judge.endpoint.client import Call
from at2po_agent.judge.endpoint.conversation import converse
from at2po_agent.judge.endpoint.refusals import ContextFull, Refusal
from at2po_agent.judge.endpoint.replies import Reply, tokens_behind
from at2po_agent.judge.episodes.records import EpisodeRecord, TurnRecord
from at2po_agent.judge.search_qa import scores
from at2po_agent.rollouts.outages import UNAVAILABLE, Outages
from at2po_agent.tasks import run_pool
from at2po_env.core import StepResult
from at2po_env.state import plain
from at2po_env.tasks import TaskEnv, TurnView


class Endpoint(Protocol):
    """A model that answers chat messages: ``ChatEndpoint``, or a model of another evaluation suite."""

    async def complete(self, call: Call, /) -> Reply:
        """Answer one call.

        Raises:
            ContextFull: the conversation is longer than the model can read.
        """
        ...


@dataclass(frozen=True)
class Metered:
    """The cost of a turn, beside its content."""

    prompt_tokens: int | None  # None: not known
    completion_tokens: int | None
    seconds: float = 0.0
    finish: str = ""
    reasoning: str = ""


async def play(
    env: TaskEnv[Any], endpoint: Endpoint, config: JudgeConfig, question_id: str, sample: int, outages: Outages
) -> EpisodeRecord:
    """Run one episode and record it; what infrastructure ended is recorded as an error, without a score.

    Args:
        env: of this episode alone (a clone).
        endpoint: of the model.
        config: temperature, seed and limits.
        question_id: the question.
        sample: which of the question's episodes this is; it varies the seed.
        outages: shared by the episodes of a run; says once that the search is away.

    Raises:
        EndpointError: no request can work.
        SearchError: nor can any search; ``SearchUnavailable`` is tried again instead.
    """
    env.reset(options={"task_id": question_id})
    episode = _Episode(env, endpoint, config, sample, outages)
    error: str | None = None
    try:
        async with asyncio.timeout(config.limits.episode_seconds):
            await episode.run()
    except TimeoutError:
        error = f"the episode did not end within {config.limits.episode_seconds:g} s"
    except (*UNAVAILABLE, Refusal) as reason:
        error = str(reason)
    return episode.record(error)


class _Episode:
    def __init__(
        self, env: TaskEnv[Any], endpoint: Endpoint, config: JudgeConfig, sample: int, outages: Outages
    ) -> None:
        self.env, self.endpoint, self.config, self.sample, self.outages = env, endpoint, config, sample, outages
        self.task_id: str = env.info()["task_id"]
        self.conversation = converse(env)
        self.prompt = plain(env.observation())
        self.replies: list[Reply] = []
        self.action = ""  # the last one
        self.started = time.perf_counter()

    async def run(self) -> None:
        over = False
        while not over:
            try:
                reply = await self.endpoint.complete(self._call())
            except ContextFull:
                if not self.replies:  # the question alone does not fit: that is no answer of the model
                    raise
                self.env.end("length_limit")
                return
            self.replies.append(reply)
            self.action = self.conversation.take(reply)
            _, _, terminated, truncated, _ = await self._step(self.action)
            over = terminated or truncated
            if not over:
                self.conversation.observe(self.env.observation())
                if self._room() < 1:
                    self.env.end("length_limit")
                    return

    def _call(self) -> Call:
        config = self.config
        address = f"{config.seed} {self.task_id} {self.sample} {len(self.replies)}"
        seed = int.from_bytes(hashlib.sha256(address.encode()).digest()[:4]) >> 1
        return Call(
            messages=tuple(self.conversation.messages),
            max_tokens=min(config.limits.max_turn_tokens, self._room()),
            temperature=config.temperature,
            stop=self.conversation.stop,
            seed=seed if config.temperature > 0 else None,
            sample=self.sample,
            tools=self.conversation.tools,
        )

    def _room(self) -> int:
        """Tokens that may still be generated, as the endpoint counts tokens; all of them where it does not."""
        most = self.config.limits.max_response_tokens
        return most - tokens_behind(self.replies[0].prompt_tokens, self.replies[-1]) if self.replies else most

    async def _step(self, action: str) -> StepResult:
        limits = self.config.limits
        return await self.outages.outlast(
            self.env.waits_for,
            lambda: self.env.astep(action),
            retries=limits.search_retries,
            seconds=limits.search_retry_seconds,
        )

    def record(self, error: str | None) -> EpisodeRecord:
        metered = [
            Metered(reply.prompt_tokens, reply.completion_tokens, reply.seconds, reply.finish, reply.reasoning)
            for reply in self.replies
        ]
        unanswered = None
        here = self.env.snapshot()
        if len(self.replies) > len(self.env.transcript(here)):  # a turn whose search failed was paid for too
            unanswered = TurnView(self.action, self.env.read_action(self.action), ())
        seconds = time.perf_counter() - self.started
        messages = self.conversation.messages
        played = Played(self.sample, self.prompt, metered, messages, seconds, error, unanswered)
        return record_of(self.env, here, played)


@dataclass(frozen=True)
class Played:
    """The parts of an episode's record that are not in its state: time, tokens, requests, errors."""

    sample: int  # which episode of its question this is
    prompt: str  # what the model read first
    metered: Sequence[Metered]  # one per turn, ``unanswered`` included
    messages: Sequence[Mapping[str, Any]] = ()  # the conversation, where there was one
    seconds: float = 0.0  # wall time
    error: str | None = None  # what infrastructure ended it with
    unanswered: TurnView | None = None  # a turn that the model took and the environment could not answer


def record_of(env: TaskEnv[Any], snapshot: Any, played: Played) -> EpisodeRecord:
    """The record of an episode that is at ``snapshot``: ended, unless ``played.error`` says why not.

    The environment scores it.
    """
    own = env
    # Where it is there already, it may be unable to go there a second time.
    if env.snapshot() != snapshot:
        own = env.clone()
        own.restore(snapshot)
    info = own.info()
    if played.error is not None:
        info.pop("ended", None)
    task = env.task(info["task_id"])
    turns = [*env.transcript(snapshot), *([played.unanswered] if played.unanswered else [])]
    return EpisodeRecord(
        question_id=task.id,
        sample=played.sample,
        question=task.text,
        answers=task.answers,
        ended=info.get("ended", "error"),
        prediction=info.get(env.answer_key) if "ended" in info else None,
        seconds=played.seconds,
        error=played.error,
        prompt=played.prompt,
        turns=tuple(_turn(turn, cost) for turn, cost in zip(turns, played.metered, strict=True)),
        messages=tuple(played.messages),
        **scores(env, info, turns),
    )


def _turn(turn: TurnView, cost: Metered) -> TurnRecord:
    return TurnRecord(
        text=turn.text,
        action=turn.action,
        observation=plain(turn.observation),
        hits=turn.hits,
        reasoning=cost.reasoning,
        prompt_tokens=cost.prompt_tokens,
        completion_tokens=cost.completion_tokens,
        seconds=cost.seconds,
        finish=cost.finish,
    )


Key = tuple[str, int]  # question id, sample


async def run_episodes(
    env: TaskEnv[Any],
    endpoint: Endpoint,
    config: JudgeConfig,
    todo: Iterable[Key],
    on_record: Callable[[EpisodeRecord], None],
    outages: Outages | None = None,
) -> None:
    """Run episodes, ``config.concurrency`` at a time, in the order of ``todo``.

    Memory does not grow with their number: an episode exists from its start to ``on_record``. When this is cancelled,
    episodes under way are dropped whole.

    Raises:
        EndpointError: no request can work; nothing more is asked.
        SearchError: nor can any search.
    """
    shared = outages or Outages()

    async def work(key: Key) -> None:
        on_record(await play(env.clone(), endpoint, config, *key, shared))

    await run_pool(todo, work, config.concurrency)
