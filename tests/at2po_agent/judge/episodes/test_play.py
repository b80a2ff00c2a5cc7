"""Many episodes at a time against a server in another thread."""

import asyncio
import gc
import itertools

import psutil
import pytest

from at2po_agent.judge.config import JudgeConfig, LimitConfig, ModelConfig
from at2po_agent.judge.endpoint.client import ChatEndpoint
from at2po_agent.judge.endpoint.refusals import EndpointError
from at2po_agent.judge.episodes.play import run_episodes
from at2po_agent.judge.episodes.records import EpisodeRecord
from search_backend.base import Passage
from tests.helpers.chat_server import Say, failure, search_then_answer
from tests.helpers.env_doubles import FakeSearch, make_env


def run(server, todo, on_record, concurrency=64, search=None, **options):
    config = JudgeConfig(
        model=ModelConfig("m", server.url),
        concurrency=concurrency,
        limits=LimitConfig(retry_seconds=0.01, max_retry_seconds=0.05, search_retry_seconds=0.01),
        **options,
    )

    async def work():
        async with ChatEndpoint(config.model, config.limits, concurrency=concurrency) as endpoint:
            env = make_env(dialect="chat", search=search or FakeSearch(), max_observation_chars=80_000)
            await run_episodes(env, endpoint, config, todo, on_record)
            return endpoint.pacer.limit

    return asyncio.run(work())


def test_500_episodes_at_concurrency_64_with_flat_memory(serve):
    def script(asked):
        say = search_then_answer(asked)
        say.delay = 0.1  # so that there is a time at which many run
        return say

    server = serve(script, keep=False)
    process = psutil.Process()
    long = FakeSearch([Passage("p", "Tower", "Where " + "word " * 15_000)])  # 75 kB in every transcript
    used: list[int] = []
    seen: set[tuple[str, int]] = set()

    def on_record(record: EpisodeRecord) -> None:
        assert record.error is None
        seen.add(record.key)
        if len(seen) % 100 == 0:
            gc.collect()
            used.append(process.memory_info().rss)

    run(server, itertools.product(("q1", "q2"), range(250)), on_record, search=long)
    assert len(seen) == 500
    assert 32 <= server.most_running <= 64
    assert used[-1] - used[0] < 20e6  # bytes; 400 transcripts kept would be 30e6 and more


def test_episodes_outlast_an_endpoint_that_is_overloaded(serve):
    records = []

    def overloaded(asked):  # takes four requests at a time
        say = search_then_answer(asked) if server.running <= 4 else Say(status=429, raw=b"{}")
        say.delay = 0.01
        return say

    server = serve(overloaded)
    limit = run(server, [("q1", sample) for sample in range(60)], records.append, concurrency=32)
    assert len(records) == 60 and all(record.error is None for record in records)
    assert limit < 32


def test_one_fatal_error_ends_all_with_one_message(serve):
    records = []
    server = serve(lambda asked: search_then_answer(asked) if asked.number < 20 else failure(401, "key revoked"))
    with pytest.raises(EndpointError, match="key revoked"):
        run(server, [("q1", sample) for sample in range(60)], records.append, concurrency=8)
    assert server.count <= 20 + 8
    assert all(record.error is None for record in records)
