"""AT²PO's environments in verifiers: a taskset over their tasks, and the harness that plays them in their dialect.

.. code-block:: bash

    vf-eval at2po-tasks -m MODEL --env.taskset.environment AT2PO-HotpotQA-v0 --env.taskset.split dev -n 100

An episode is one that ``at2po-agent eval`` plays: same prompts, limits and scores. Its model calls go through
verifiers, which records and trains on them. Answers stay with the environment: no task data holds them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal

import openai
import verifiers.v1 as vf
from pydantic import Field

from at2po_agent.judge.config import JudgeConfig, LimitConfig
from at2po_agent.judge.endpoint.client import Call
from at2po_agent.judge.endpoint.context import ask_what_fits
from at2po_agent.judge.endpoint.refusals import ContextFull, read_refusal
from at2po_agent.judge.endpoint.replies import Reply, read_reply
from at2po_agent.judge.episodes.play import play
from at2po_agent.judge.opening import chat_config, open_env
from at2po_agent.rollouts.outages import Outages
from at2po_env.tasks import TaskEnv

__all__ = ["At2poHarness", "At2poTaskset"]

_RECORD = "at2po"  # of ``trace.info``
_LIMITS = {"length_limit": "max_total_tokens", "turn_limit": "max_turns"}  # verifiers' words for an episode cut off


class At2poConfig(vf.TasksetConfig):
    """Which environment, and how it is talked to."""

    environment: str = "AT2PO-HotpotQA-v0"
    """A Gymnasium id of ours, or MODULE:ID of your own."""
    split: str | None = None
    """Of its tasks; the one that ``at2po-agent eval`` takes where it is not given."""
    format: Literal["tags", "native"] = "tags"
    """Actions in tags in the messages, or as tool calls."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Of the environment: k, search, max_searches, …"""
    max_turn_tokens: int = 512
    """That a turn may have."""


class At2poData(vf.TaskData):
    """A task by its id, and the environment that it is of."""

    environment: dict[str, Any]


class At2poTask(vf.Task[At2poData, vf.State, vf.TaskConfig]):
    """Scored by the environment; the reward is its own, and everything that it measures is a metric."""

    @vf.reward
    async def outcome(self, trace: vf.Trace) -> float:
        """The reward of the episode: the sum over its turns."""
        return float(trace.info[_RECORD]["reward"])

    @vf.metric
    async def measured(self, trace: vf.Trace) -> Mapping[str, float]:
        """Exact match, F1 and searches, or what another task measures."""
        return {name: float(value) for name, value in trace.info[_RECORD]["measured"].items()}


class At2poTaskset(vf.Taskset[At2poTask, At2poConfig]):
    """The tasks of an environment, in its order."""

    def load(self) -> Iterator[At2poTask]:
        """Yield every task with its question as the prompt that people see."""
        told = self.config.model_dump(include={"environment", "split", "format", "arguments", "max_turn_tokens"})
        env, _ = _opened(json.dumps(told, sort_keys=True))
        for task_id in env.tasks:
            data = At2poData(id=task_id, name=task_id, prompt=env.task(task_id).text, environment=told)
            yield At2poTask(data, self.config.task)


class At2poHarnessConfig(vf.HarnessConfig):
    """Nothing of its own: the taskset says how the environment is talked to."""


class At2poHarness(vf.Harness[At2poHarnessConfig]):
    """Plays a task in its environment, in this process: a model is asked, and no code of a model is run."""

    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        """Play one episode with the model behind ``endpoint``."""
        assert isinstance(data, At2poData) and data.id is not None
        shared, config = _opened(json.dumps(data.environment, sort_keys=True))
        env = shared.clone()
        async with openai.AsyncOpenAI(base_url=endpoint, api_key=secret, max_retries=0, timeout=3600) as client:
            record = await play(env, _Intercepted(client, ctx.model, trace), config, data.id, 0, Outages())
        if record.error is not None:
            raise RuntimeError(record.error)
        measured = {name: value for name, value in record.measured.items() if value is not None}
        reward = sum(turn.reward for turn in env.transcript(env.snapshot()))
        trace.info[_RECORD] = {"ended": record.ended, "prediction": record.prediction, "measured": measured}
        trace.info[_RECORD]["reward"] = reward
        if record.ended in _LIMITS:
            trace.stop(_LIMITS[record.ended])
        return vf.ProgramResult(0, "", "")


class _Intercepted:
    """The model as our episodes ask it. verifiers tries again, and lays its sampling settings over ours."""

    def __init__(self, client: openai.AsyncOpenAI, model: str, trace: vf.Trace) -> None:
        self.client, self.model, self.trace = client, model, trace

    async def complete(self, call: Call) -> Reply:
        """Answer one call.

        Raises:
            ContextFull: the conversation is longer than the model can read, or verifiers has ended it.
        """
        return await ask_what_fits(self._ask, call.fields())

    async def _ask(self, fields: Mapping[str, Any]) -> Reply:
        began = time.perf_counter()
        try:
            answer = await self.client.chat.completions.with_raw_response.create(model=self.model, **fields)
        except openai.APIStatusError as error:
            refused = read_refusal(error.status_code, error.body, {})
            # A limit of verifiers' own is said as a refusal of the next call.
            if refused.kind is not ContextFull and self.trace.stop_condition is None:
                raise
            raise ContextFull(str(error), refused.said) from error
        return read_reply(json.loads(answer.text), time.perf_counter() - began)


@cache
def _opened(told: str) -> tuple[TaskEnv[Any], JudgeConfig]:
    """An environment of this process, which its episodes clone, and how it is played."""
    wanted = json.loads(told)
    limits = LimitConfig(max_turn_tokens=wanted["max_turn_tokens"])
    env_id, split, form, arguments = (wanted[name] for name in ("environment", "split", "format", "arguments"))
    config = chat_config(env_id, "verifiers", split, form, limits, arguments)
    return open_env(config), config
