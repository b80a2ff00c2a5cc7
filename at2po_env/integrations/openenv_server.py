"""Serve any environment over OpenEnv's protocol, with forks: ``create_app`` makes the server, a session is a ``/ws``.

.. code-block:: python

    app = create_app({"train": gymnasium.make("at2po_env:AT2PO-HotpotQA-v0", split="train").unwrapped})
    uvicorn.run(app, port=8000)

No message holds a reference answer before an episode has ended: a snapshot is an id that only this server can resolve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import FastAPI
from openenv.core.env_server.http_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import ConcurrencyConfig, EnvironmentMetadata

from at2po_env.core import StepResult
from at2po_env.integrations.openenv_guard import Guard, Limits
from at2po_env.integrations.openenv_snapshots import Snapshots
from at2po_env.integrations.openenv_tasks import SplitTasks
from at2po_env.integrations.openenv_wire import (
    OURS,
    SessionLost,
    TurnAction,
    TurnObservation,
    TurnState,
    text_to_wire,
    told,
)
from at2po_env.state import plain
from at2po_env.tasks import TaskEnv


class TurnEnvironment(SplitTasks, Environment):
    """One session: an episode at a time, in clones of the environments that all sessions share."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, envs: Mapping[str, TaskEnv[Any]], snapshots: Snapshots, name: str) -> None:
        Environment.__init__(self)
        SplitTasks.__init__(self, envs)
        self._snapshots, self._name = snapshots, name
        self._split = next(iter(envs))
        self._env: TaskEnv[Any] | None = None
        self._episode_id: str | None = None
        self._rendered = False

    async def reset_async(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        *,
        split: str | None = None,
        rendered: bool = False,
        **where: Any,
    ) -> TurnObservation:
        """Begin a task by its ``index`` in the split or its ``task_id``, go on from a ``snapshot``, or draw a task."""
        where = {name: value for name, value in where.items() if value is not None}
        if len(where) > 1 or not where.keys() <= {"index", "task_id", "snapshot"}:
            raise ValueError(
                "reset takes seed, episode_id, split, rendered and one of index, task_id and snapshot, got "
                f"{', '.join(sorted(where))}"
            )
        with told():
            kept = self._snapshots.find(where["snapshot"]) if "snapshot" in where else None
            entered = kept.split if kept else self._split if split is None else split
            options: dict[str, Any] = dict(where) if kept is None else {"snapshot": kept.snapshot}
            env = self._begun(entered, seed if kept is None else None, options)
        self.close()
        self._split, self._env = entered, env
        self._rendered, self._episode_id = rendered, episode_id
        return self._observed(None, env.info())

    async def step_async(self, action: TurnAction, timeout_s: float | None = None, **rest: Any) -> TurnObservation:
        """Take one turn, or end the episode. What infrastructure failed leaves the episode as it was."""
        with told():
            env = self._here()
            result: StepResult = await env.astep(action.text) if action.end is None else env.end(action.end)
        _, reward, _, truncated, info = result
        return self._observed(reward, info, truncated)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **where: Any) -> TurnObservation:
        """``reset_async`` where no event loop runs."""
        return asyncio.run(self.reset_async(seed, episode_id, **where))

    def step(self, action: TurnAction, timeout_s: float | None = None, **rest: Any) -> TurnObservation:
        """``step_async`` where no event loop runs."""
        return asyncio.run(self.step_async(action, timeout_s, **rest))

    @property
    def state(self) -> TurnState:
        """The session's state; empty before its first reset."""
        if self._env is None:
            return TurnState(episode_id=self._episode_id)
        info = self._env.info()
        return TurnState(
            episode_id=self._episode_id,
            step_count=info.get("turns", 0),
            task_id=info["task_id"],
            split=self._split,
            snapshot=self._snapshots.keep(self._split, self._env.snapshot()),
            ended=info.get("ended"),
        )

    def _begun(self, split: str, seed: int | None, options: dict[str, Any]) -> TaskEnv[Any]:
        """A new environment with an episode; where it is refused, the episode under way goes on."""
        env = self.of(split).clone()
        if self._env is not None:
            env.np_random = self._env.np_random  # resets without a seed go on drawing
        try:
            if "index" in options:
                options = {"task_id": self.get_task(split, options["index"])["id"]}
            env.reset(seed=seed, options=options)
        except BaseException:
            env.close()
            raise
        return env

    def _here(self) -> TaskEnv[Any]:
        if self._env is None:
            raise SessionLost("no episode has begun on this connection: reset it; plain HTTP keeps none, use /ws")
        return self._env

    def _observed(self, reward: float | None, info: Mapping[str, Any], truncated: bool = False) -> TurnObservation:
        env = self._here()
        seen, metadata = env.observation(), dict(info)
        if self._rendered:
            snapshot = self._snapshots.keep(self._split, env.snapshot())
            metadata[OURS] = {**text_to_wire(seen), "snapshot": snapshot, "truncated": truncated, "stop": env.stop}
        return TurnObservation(text=plain(seen), reward=reward, done="ended" in info, metadata=metadata)

    def get_metadata(self) -> EnvironmentMetadata:
        """Name and size of the environment."""
        sizes = ", ".join(f"{len(env.tasks):,} of {split}" for split, env in self.envs.items())
        return EnvironmentMetadata(name=self._name, description=f"Tasks: {sizes}. Episodes fork by snapshot.")

    def close(self) -> None:
        """Give up the episode; what all sessions share stays open."""
        env, self._env = self._env, None
        if env is not None:
            env.close()


def create_app(
    envs: Mapping[str, TaskEnv[Any]],
    *,
    name: str = "at2po",
    sessions: int = 256,
    limits: Limits | None = None,
    snapshots: Snapshots | None = None,
) -> FastAPI:
    """An OpenEnv server of environments, one for each split.

    Args:
        envs: by split; the first is the default. They are cloned for every session, and closed by whoever opened them.
        name: of the environment, in the paths of OpenEnv's task routes.
        sessions: how many clients may be connected at a time.
        limits: token, size of messages and idle time; ``Limits()`` where they are not given, which has no token.
        snapshots: where snapshots are kept; ``Snapshots()`` where it is not given.
    """
    limits = Limits() if limits is None else limits
    app: FastAPI = create_fastapi_app(
        partial(TurnEnvironment, envs, Snapshots() if snapshots is None else snapshots, name),
        TurnAction,
        TurnObservation,
        concurrency_config=ConcurrencyConfig(max_concurrent_envs=sessions, session_timeout=2 * limits.idle_seconds),
        env_name=name,
        state_cls=TurnState,
        mode="simulation",
    )
    app.add_middleware(Guard, limits=limits)
    return app
