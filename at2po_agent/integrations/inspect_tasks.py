"""Inspect's tasks over our environments: ``inspect eval at2po/hotpotqa --model …``.

A sample is an episode as ``at2po-agent eval`` plays it: the same prompts, limits and scores, with Inspect's model in
place of our endpoint. ``-T split=dev -T format=native -T k=5`` are arguments of the task, and of the environment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import get_model
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver, use_tools
from inspect_ai.tool import Tool, tool

from at2po_agent.integrations.inspect_log import chat_messages, score_of
from at2po_agent.integrations.inspect_model import InspectModel
from at2po_agent.judge.config import Format, JudgeConfig, LimitConfig
from at2po_agent.judge.episodes.play import play
from at2po_agent.judge.episodes.records import EpisodeRecord
from at2po_agent.judge.opening import chat_config, open_env
from at2po_agent.rollouts.outages import Outages
from at2po_env.dialects import NATIVE
from at2po_env.registration import BENCHMARKS, TASK_FAMILIES
from at2po_env.scoring import exact_match, f1
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import plain
from at2po_env.tasks import TaskEnv

_RECORD = "at2po:episode"


@solver("at2po/episode")
def episode(env: TaskEnv[Any], config: JudgeConfig) -> Solver:
    """Play a sample as an episode of an environment; what infrastructure failed is an error of the sample."""
    outages = Outages()

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        endpoint = InspectModel(get_model())
        record = await play(env.clone(), endpoint, config, str(state.sample_id), state.epoch - 1, outages)
        if record.error is not None:
            raise RuntimeError(record.error)
        state.messages, state.output = chat_messages(record.messages), endpoint.last
        state.store.set(_RECORD, asdict(record))
        return state

    return solve


@scorer(metrics={"*": [mean(), stderr()]}, name="at2po/outcome")
def outcome() -> Scorer:
    """The metrics of the environment; of another solver's answer, exact match and F1."""

    async def score(state: TaskState, target: Target) -> Score:
        record = state.store.get(_RECORD)
        if record is not None:
            return score_of(EpisodeRecord.from_json(record))
        answer = state.output.completion
        return Score(value={"em": exact_match(answer, list(target)), "f1": f1(answer, list(target))}, answer=answer)

    return score


@tool(name="search")
def search(env: SearchQAEnv) -> Tool:
    """Search what an environment searches, for solvers other than ours."""

    async def execute(query: str) -> str:
        """Searches a collection of passages and returns those that match the query best.

        Args:
            query: Words to search for, such as a name and what you want to know about it.
        """
        (hits,) = await env.search.asearch([query], env.rules.k)
        return plain(NATIVE.result(hits, env.rules.max_observation_chars))

    return execute


def environment_task(
    env_id: str,
    *,
    split: str | None = None,
    format: Format = "tags",
    temperature: float = 0.0,
    max_turn_tokens: int | None = None,
    **env: Any,
) -> Task:
    """A task over the tasks of an environment.

    Args:
        env_id: its Gymnasium id.
        split: of its tasks; the one that ``at2po-agent eval`` takes where it is not given.
        format: ``tags`` in the messages, or ``native`` tool calls.
        temperature: of the model.
        max_turn_tokens: that a turn may have.
        **env: arguments of the environment: ``k``, ``search``, ….
    """
    limits = LimitConfig() if max_turn_tokens is None else LimitConfig(max_turn_tokens=max_turn_tokens)
    config = replace(chat_config(env_id, "inspect", split, format, limits, env), temperature=temperature)
    opened = open_env(config)
    tasks = [opened.task(task_id) for task_id in opened.tasks]
    samples = [Sample(one.text, target=list(one.answers), id=one.id, metadata={"group": one.group}) for one in tasks]
    return Task(
        MemoryDataset(samples, name=f"{env_id} {config.split}"),
        setup=use_tools(search(opened)) if isinstance(opened, SearchQAEnv) else None,
        solver=episode(opened, config),
        scorer=outcome(),
        metadata={"manifest": opened.manifest()},
    )


def _registered(name: str, env_id: str) -> Callable[..., Task]:
    def create(**arguments: Any) -> Task:
        return environment_task(env_id, **arguments)

    create.__name__ = name
    # Inspect puts the top-level module of a function before its name, ours the distribution's name.
    create.__module__ = "at2po"
    registered: Callable[..., Task] = task(name=f"at2po/{name}")(create)
    return registered


TASKS = {name: _registered(name, entry.id) for name, entry in BENCHMARKS.items()} | {
    env_id.split("-")[1].lower(): _registered(env_id.split("-")[1].lower(), env_id) for env_id in TASK_FAMILIES
}
"""Inspect's tasks by the name after ``at2po/``."""
