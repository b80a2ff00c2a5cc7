"""OpenEnv's client for a server of ours, with forks.

.. code-block:: python

    async with TurnClient("http://127.0.0.1:8000") as client:
        await client.reset(split="train", index=3)
        left, right = await client.fork(2)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Self

from openenv.core.client_types import StepResult
from openenv.core.env_client import EnvClient

from at2po_env.errors import SnapshotError
from at2po_env.integrations.openenv_wire import TurnAction, TurnObservation, TurnState


class TurnClient(EnvClient):
    """OpenEnv's client with our messages. Each client is a session; a fork is a session of its own."""

    async def fork(self, n: int) -> list[Self]:
        """Open ``n`` sessions that each continue this episode on their own; they close with this client.

        Raises:
            SnapshotError: there is no episode to fork.
        """
        here = await self.state()
        if here.snapshot is None:
            raise SnapshotError("there is no episode to fork: call reset first")
        forks = [await self.new_session() for _ in range(n)]
        await asyncio.gather(*(fork.reset(snapshot=here.snapshot) for fork in forks))
        return forks

    def _step_payload(self, action: TurnAction) -> dict[str, Any]:
        return dict(action.model_dump(exclude_defaults=True))

    def _parse_result(self, payload: Mapping[str, Any]) -> StepResult:
        seen = {**payload["observation"], "reward": payload["reward"], "done": payload["done"]}
        observation = TurnObservation.model_validate(seen)
        return StepResult(observation, observation.reward, observation.done, observation.metadata)

    def _parse_state(self, payload: Mapping[str, Any]) -> TurnState:
        state: TurnState = TurnState.model_validate(payload)
        return state
