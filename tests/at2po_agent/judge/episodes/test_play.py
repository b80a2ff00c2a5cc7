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
from at2po_env import ToolEnv, ToolRules, ToolTask
from search_backend.base import Passage, SearchUnavailable
from tests.helpers.chat_server import Say, failure, search_then_answer
from tests.helpers.env_doubles import FakeSearch, make_env
from tests.helpers.tool_host import Host

FAST = {"retry_seconds": 0.01, "max_retry_seconds": 0.05, "search_retry_seconds": 0.01}


def run(server, todo, on_record, concurrency=64, search=None, env=None, **limits):
    config = JudgeConfig(
        model=ModelConfig("m", server.url), concurrency=concurrency, limits=LimitConfig(**FAST, **limits)
    )

    async def work():
        async with ChatEndpoint(config.model, config.limits, concurrency=concurrency) as endpoint:
            asked = env or make_env(dialect="chat", search=search or FakeSearch(), max_observation_chars=80_000)
            await run_episodes(asked, endpoint, config, todo, on_record)
            return endpoint.pacer.limit

    return asyncio.run(work())


@pytest.mark.slow
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


@pytest.mark.fault("E: a content filter that refuses one question")
def test_a_filter_that_refuses_a_question_before_any_answer_ends_its_episode_alone(serve):
    records = []

    def script(asked):
        if "Tower A" in asked.messages[0]["content"]:
            return failure(400, "The response was filtered", param="prompt", code="content_filter")
        return Say("<answer>x", delay=0.3)

    run(serve(script), [("q2", 0), ("q1", 0), ("q2", 1), ("q1", 1)], records.append, concurrency=4)
    assert sorted((record.question_id, record.ended) for record in records) == [
        ("q1", "error"),
        ("q1", "error"),
        ("q2", "answer"),
        ("q2", "answer"),
    ]
    assert all("was filtered" in record.error for record in records if record.question_id == "q1")


def one(server, **options) -> EpisodeRecord:
    """The record of one episode of ``q1``."""
    records: list[EpisodeRecord] = []
    run(server, [("q1", 0)], records.append, concurrency=1, **options)
    return records[0]


def test_an_episode_is_recorded_with_its_score_its_turns_and_its_conversation(serve):
    record = one(serve(search_then_answer))
    assert (record.key, record.ended, record.prediction, record.error) == (("q1", 0), "answer", "Tower A", None)
    assert (record.em, record.f1, record.contains, record.recall, record.searches) == (0.0, 0.0, 0.0, 1.0, 1)
    assert [turn.action["kind"] for turn in record.turns] == ["search", "answer"]
    first = record.turns[0]
    assert first.hits[0] == {"id": "p1", "title": "Tower A", "score": 1.0}
    assert (first.prompt_tokens, first.completion_tokens, first.finish) == (100, len(first.text) - 9, "stop")
    assert [message["role"] for message in record.messages] == ["user", "assistant", "user", "assistant"]
    assert record.prompt in record.messages[0]["content"]


def test_what_infrastructure_ends_has_no_score_and_keeps_the_turn_that_was_paid_for(serve):
    away = FakeSearch()
    away.failures = [SearchUnavailable("index away")] * 9
    record = one(serve(search_then_answer), search=away, search_retries=1)
    assert (record.ended, record.em, record.f1, record.recall) == ("error", None, None, None)
    assert "index away" in record.error
    assert [(turn.action["kind"], turn.observation) for turn in record.turns] == [("search", "")]
    assert record.completion_tokens > 0


def test_a_server_of_tools_that_does_not_come_back_ends_an_episode_as_a_search_does(serve):
    host, records = Host(), []
    env = ToolEnv([host.tool()], [ToolTask("a", "A.")], lambda end: 1.0, ToolRules.of("chat"))
    server = serve(lambda asked: Say(f"<add>{[1, 99][asked.number > 0]}</add>"))
    run(server, [("a", 0)], records.append, env=env, search_retries=2)
    (record,) = records
    assert (record.ended, record.metrics) == ("error", {}) and "the session of this episode is lost" in record.error
    assert [turn.action["content"] for turn in record.turns] == ['add("n": "1")', 'add("n": "99")']


def test_the_hard_deadline_is_an_error(serve):
    record = one(serve(lambda asked: Say("x", delay=5)), episode_seconds=0.3)
    assert (record.ended, record.error) == ("error", "the episode did not end within 0.3 s")


def test_a_conversation_that_outgrows_the_model_is_the_models_end(serve):
    full = failure(400, "maximum context length is 10 tokens", code="context_length_exceeded")
    record = one(serve(lambda asked: full if len(asked.messages) > 1 else search_then_answer(asked)))
    assert (record.ended, record.em, record.error) == ("length_limit", 0.0, None)


@pytest.mark.fault("item 4: a prompt fits and prompt + max_tokens does not")
def test_a_later_turn_for_which_only_fewer_tokens_are_left_is_played(serve):
    def script(asked):
        if len(asked.messages) > 1 and asked.body["max_tokens"] > 50:
            said = f"{8000 + asked.body['max_tokens']} tokens (8000 in the messages, {asked.body['max_tokens']} in the"
            return failure(400, f"maximum context length is 8051 tokens. However, you requested {said} completion).")
        return search_then_answer(asked)

    record = one(serve(script))
    assert (record.ended, record.prediction, record.error) == ("answer", "Tower A", None)


@pytest.mark.fault("B: reasoning that quotes a tag is cut by a stop string")
def test_reasoning_that_quotes_a_tag_is_not_scored_as_it_was_cut(serve):
    def script(asked):
        if "stop" in asked.body:
            return Say(None, message={"reasoning_content": "I write <search>your query"})
        return Say("<answer>Paris</answer> and on", message={"reasoning_content": "I write <search>it</search>."})

    record = one(serve(script))
    assert (record.em, record.error, record.turns[0].text) == (1.0, None, "<answer>Paris</answer>")


def test_a_question_that_does_not_fit_is_no_answer_of_the_model(serve):
    record = one(serve(lambda asked: failure(400, "too long", code="context_length_exceeded")))
    assert (record.ended, record.em) == ("error", None)


def test_an_episode_ends_when_its_tokens_are_used_up(serve):
    server = serve(lambda asked: Say("<search>x"))
    record = one(server, max_response_tokens=9)
    assert (record.ended, len(record.turns)) == ("length_limit", 1)  # 9 tokens, a character each
    assert server.asked[0].body["max_tokens"] == 9
