"""Many episodes at a time, each recorded when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from at2po_agent.judge.config import JudgeConfig
from at2po_agent.judge.endpoint import ChatEndpoint
from at2po_agent.judge.episodes import play
from at2po_agent.judge.records import EpisodeRecord
from at2po_agent.outages import Outages
from at2po_env.search_qa import SearchQAEnv

Key = tuple[str, int]  # question id, sample


async def run_episodes(
    env: SearchQAEnv,
    endpoint: ChatEndpoint,
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
    left, shared = iter(todo), outages or Outages()

    async def work() -> None:
        for question_id, sample in left:
            on_record(await play(env.clone(), endpoint, config, question_id, sample, shared))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(config.concurrency):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the others were only cancelled, or say the same
