"""Whatever an endpoint answers, through the real client: a reply that can be recorded, or that episode's error."""

import asyncio
import gzip
import json
import sqlite3
import time
import zlib
from contextlib import suppress

import psutil
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from at2po_agent.judge.config import JudgeConfig, LimitConfig, ModelConfig
from at2po_agent.judge.endpoint.client import Call, ChatEndpoint
from at2po_agent.judge.endpoint.refusals import EndpointError
from at2po_agent.judge.endpoint.response_cache import ResponseCache
from at2po_agent.judge.episodes.play import run_episodes
from at2po_agent.judge.episodes.records import EpisodeRecord
from at2po_agent.judge.results.metrics import summarise
from at2po_agent.policy.base import PolicyUnavailable
from tests.helpers.chat_server import ChatServer, Say, completion, failure
from tests.helpers.env_doubles import FakeSearch, make_env

FAST = LimitConfig(retries=1, retry_seconds=0.001, max_retry_seconds=0.001, request_seconds=5)
HELLO = Call(messages=({"role": "user", "content": "hello"},), max_tokens=16)
GOOD = completion(
    Say(
        "<answer>x</answer>",
        message={"reasoning": "r", "tool_calls": [{"id": "1", "function": {"name": "search", "arguments": "{}"}}]},
        choice={
            "matched_stop": None,
            "logprobs": {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]},
        },
    )
)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
ODD = st.sampled_from(
    [None, True, -1, 2**53, 2**63, 10**250, 0.5, 1e308, -1e308, float("nan"), float("inf"), "\ud800", "\x1b[2J", "", {}]
)
ANYTHING = st.recursive(
    ODD | ANY_TEXT | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)


def places(value, before=()):
    """Every place in a JSON value, by its keys."""
    yield before
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*before, key))


def changed(value, place, new):
    """The value with something else at one place."""
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = changed(value[place[0]], place[1:], new)
    return copy


@st.composite
def answers(draw):
    """A completion with something else at some places."""
    value = GOOD
    for place in draw(st.lists(st.sampled_from(list(places(GOOD))), min_size=1, max_size=3)):
        with suppress(KeyError, IndexError, TypeError, AttributeError):  # a change took the place away
            value = changed(value, place, draw(ANYTHING))
    return json.dumps(value).encode()


DEEP = b'{"x":' + b"[" * 2000 + b"]" * 2000 + b"}"
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Content-Encoding": st.sampled_from(["gzip", "deflate", "br", "zstd", "utf-8", "x" * 500]),
        "Retry-After": st.sampled_from(["0", "-1", "x", "Mon, 01 Jan 2024 00:00:00 +999999999999999"])
        | st.from_regex(r"[A-Z][a-z]{2}, \d\d? Jan (0000|1\d{3}) \d\d:\d\d:\d\d [+-]\d{2,9}", fullmatch=True),
    },
)
TYPES = st.sampled_from(
    ["application/json", "text/html; charset=base64", "x; charset=undefined", "text/plain; charset=utf-7", "", "\xff"]
)


@st.composite
def says(draw):
    """An answer with any status that is tried again, packed as it says or not."""
    body = draw(
        answers() | answers() | st.binary(max_size=50) | st.just(DEEP) | ANYTHING.map(json.dumps).map(str.encode)
    )
    packed = draw(st.sampled_from([bytes, bytes, gzip.compress, zlib.compress]))(body)
    status = draw(st.sampled_from([200, 200, 200, 201, 204, 408, 500, 502, 503, 599]))
    return Say(status=status, raw=b"" if status == 204 else packed, headers=draw(HEADERS), content_type=draw(TYPES))


@pytest.fixture(scope="module")
def scripted():
    """A server, and the list with the answer that it gives."""
    say: list[Say] = []
    with ChatServer(lambda asked: say[0], keep=False) as server:
        yield server, say


@pytest.fixture(scope="module")
def play_fast(scripted):
    """A function that plays an episode, always with one and the same endpoint."""
    config = JudgeConfig(model=ModelConfig("m", scripted[0].url), limits=FAST)
    env = make_env(dialect="chat", search=FakeSearch())

    async def start():
        return ChatEndpoint(config.model, config.limits)

    with asyncio.Runner() as runner:
        endpoint = runner.run(start())
        yield lambda on_record: runner.run(run_episodes(env, endpoint, config, [("q1", 0)], on_record))
        runner.run(endpoint.aclose())


def play(server, on_record, limits=FAST):
    config = JudgeConfig(model=ModelConfig("m", server.url), limits=limits)

    async def work():
        async with ChatEndpoint(config.model, config.limits) as endpoint:
            env = make_env(dialect="chat", search=FakeSearch())
            await run_episodes(env, endpoint, config, [("q1", 0)], on_record)

    asyncio.run(work())


@pytest.mark.fault("item 23: one bad answer of an endpoint ends the run (fuzzed)")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@example(say=Say(raw=json.dumps(completion(Say("x", finish="\ud800"))).encode()))
@example(say=Say(raw=json.dumps(completion(Say("x", choice={"finish_reason": {"a": 1}}))).encode()))
@example(say=Say(raw=json.dumps(completion(Say("x", choice={"finish_reason": 7}))).encode()))
@given(say=says())
def test_whatever_an_endpoint_answers_there_is_a_record_that_everything_reads(scripted, play_fast, say):
    _, script = scripted
    script[:] = [say]
    records: list[EpisodeRecord] = []
    play_fast(records.append)
    (record,) = records
    assert EpisodeRecord.from_json(json.loads(record.to_line().encode())) == record
    json.dumps(summarise(records).to_json(), allow_nan=False)


BAD = {
    "deep JSON": Say(raw=DEEP),
    "a finish_reason that is half a character": Say(raw=json.dumps(completion(Say("x", finish="\ud800"))).encode()),
    "a count of 400 digits": Say(raw=json.dumps({**GOOD, "usage": {"completion_tokens": 10**400}}).encode()),
    "a negative count": Say(raw=json.dumps({**GOOD, "usage": {"prompt_tokens": -1}}).encode()),
    "gzip that is none": Say(raw=b"none", status=500, headers={"Content-Encoding": "gzip"}),
    "gzip that is none, with 200": Say(raw=b"none", headers={"Content-Encoding": "gzip"}),
    "a packing that was not asked for": Say(raw=b"none", headers={"Content-Encoding": "br"}),
    "a character set that is none": Say(raw=b"\xff", status=500, content_type="text/html; charset=base64"),
    "a pause until an absurd date": Say(
        raw=b"{}", status=503, headers={"Retry-After": "Mon, 01 Jan 2024 00:00:00 +999999999999999"}
    ),
    "3 GB in gzip": Say(raw=gzip.compress(bytes(30_000_000)) * 100, headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.fault("R2: an answer of the endpoint that is garbage")
@pytest.mark.parametrize("name", BAD)
def test_garbage_is_asked_for_again_and_then_that_episodes_error(scripted, name):
    server, script = scripted
    script[:] = [BAD[name]]
    records: list[EpisodeRecord] = []
    before = server.count
    play(server, records.append)
    (record,) = records
    if name == "a finish_reason that is half a character":  # the character alone is replaced
        assert record.turns[0].finish == "\ufffd"
    else:
        assert record.error and "tried 2 times" in record.error and server.count == before + 2


@pytest.mark.fault("R2: a corrupt row of the response cache")
@pytest.mark.parametrize("row", ["{", "{}", "[]", DEEP.decode(), b"\xff", 7, None])
def test_a_corrupt_row_of_the_cache_is_asked_for_again_and_replaced(scripted, tmp_path, row):
    server, script = scripted
    script[:] = [Say("hi")]
    path = tmp_path / "answers.db"

    async def ask():
        with ResponseCache(path) as cache:
            async with ChatEndpoint(ModelConfig("m", server.url), FAST, cache=cache) as endpoint:
                return (await endpoint.complete(HELLO)).text

    assert asyncio.run(ask()) == "hi"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA ignore_check_constraints=ON")
        db.execute("UPDATE answers SET body = ?", ("" if row is None else row,))
    db.close()
    before = server.count
    assert (asyncio.run(ask()), asyncio.run(ask())) == ("hi", "hi")
    assert server.count == before + 1


@pytest.mark.fault("R4: bodies that never end, or unpack to gigabytes")
@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("packed", [False, True])
def test_bodies_without_an_end_take_neither_memory_nor_time(serve, status, packed):
    unit = gzip.compress(bytes(50_000_000)) if packed else b" " * 1_000_000
    headers = {"Content-Encoding": "gzip"} if packed else {}
    server = serve(lambda asked: Say(status=status, headers=headers, raw=unit, repeat=True))
    process = psutil.Process()
    before, started, most = process.memory_info().rss, time.monotonic(), 0

    async def ask():
        limits = LimitConfig(retries=2, retry_seconds=0.001, max_retry_seconds=0.001, request_seconds=20)
        async with ChatEndpoint(ModelConfig("m", server.url), limits, concurrency=2) as endpoint:
            return await asyncio.gather(*(endpoint.complete(HELLO) for _ in range(2)), return_exceptions=True)

    async def watch():
        nonlocal most
        asking = asyncio.create_task(ask())
        while not asking.done():
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.02)
        return await asking

    errors = asyncio.run(watch())
    assert all(isinstance(error, PolicyUnavailable) for error in errors)
    assert time.monotonic() - started < 15
    assert most - before < 200e6


@pytest.mark.fault("R4: an error body of a byte now and then")
def test_an_error_that_trickles_ends_at_the_deadline(serve):
    server = serve(lambda asked: Say(status=500, trickle=0.05))
    limits = LimitConfig(retries=0, request_seconds=0.5)
    records: list[EpisodeRecord] = []
    play(server, records.append, limits)
    assert "no complete answer within 0.5 s" in records[0].error


def test_of_an_error_64_kb_are_read(serve):
    server = serve(lambda asked: failure(400, "x" * 100_000))
    with pytest.raises(EndpointError, match=r"HTTP 400: .*xxx"):
        play(server, print)


@pytest.mark.fault("R2: log-probabilities that are no numbers")
@pytest.mark.parametrize("given", ["x", 1e308, -1e308, 0.5, True, [], {}])
def test_log_probabilities_that_are_none_are_asked_for_again(scripted, given):
    server, script = scripted
    script[:] = [Say("a", choice={"logprobs": {"content": [{"token": "a", "logprob": given}]}})]

    async def ask():
        async with ChatEndpoint(ModelConfig("m", server.url), FAST) as endpoint:
            await endpoint.complete(HELLO)

    with pytest.raises(PolicyUnavailable, match=r"logprobs\.content\[0\]\.logprob is no"):
        asyncio.run(ask())
