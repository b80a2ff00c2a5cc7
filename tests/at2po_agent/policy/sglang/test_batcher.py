"""Turns that are ready at the same time, over real HTTP: one request, and each comes back by itself."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import aiohttp
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings

from at2po_agent.policy.base import PolicyError, PolicyUnavailable
from at2po_agent.policy.sglang.batcher import MOST_TOGETHER, Batcher
from at2po_agent.policy.sglang.server import Answer, Server
from at2po_agent.policy.sglang.transport import NoAnswer, Transport
from tests.at2po_agent.policy.sglang.test_server import PARAMS
from tests.helpers.hostile_json import with_one_part_replaced
from tests.helpers.sglang_double import DROP, Double, V, serving

T = TypeVar("T")


@pytest.fixture
def double() -> Iterator[Double]:
    with serving(Double()) as double:
        yield double


def body(i: int) -> dict[str, Any]:
    """A turn that the double answers with ids that tell it from others."""
    return {
        "input_ids": [i],
        "sampling_params": PARAMS,
        "return_logprob": True,
        "logprob_start_len": -1,
        "top_logprobs_num": 0,
    }


def with_batcher(url: str, work: Callable[[Batcher], Awaitable[T]], timeout: float = 5, most: int = MOST_TOGETHER) -> T:
    async def run() -> T:
        async with aiohttp.ClientSession() as session:
            transport = Transport(url, session, timeout)
            batcher = Batcher(transport, lambda rid: transport.tell("/abort_request", {"rid": rid}), most)
            try:
                return await work(batcher)
            finally:
                await batcher.settle()

    return asyncio.run(run())


async def ask(batcher: Batcher, turns: int) -> list[Any]:
    """The sampled ids of each turn, or its error."""

    async def one(i: int) -> list[int]:
        told = await batcher.generate(body(i), f"turn {i}")
        ids: list[int] = told["output_ids"]
        return ids

    return await asyncio.gather(*(one(i) for i in range(turns)), return_exceptions=True)


def answers(turns: int) -> list[list[int]]:
    return [[i + 1, i + 2, i + 3] for i in range(turns)]


def test_turns_that_are_ready_together_are_one_request_and_each_gets_its_own_answer(double: Double) -> None:
    assert with_batcher(double.url, lambda batcher: ask(batcher, 5)) == answers(5)
    assert double.batches == [5]
    assert [turn["input_ids"] for turn in double.turns] == [[i] for i in range(5)]
    assert len({turn["rid"] for turn in double.turns}) == 5
    # The server must not stream every token.
    assert {turn["sampling_params"]["stream_interval"] for turn in double.turns} == {2**30}


def test_a_turn_alone_is_not_streamed_and_a_request_has_a_bound(double: Double) -> None:
    async def work(batcher: Batcher) -> None:
        assert await ask(batcher, 1) == answers(1)
        assert not double.batches
        assert await ask(batcher, 7) == answers(7)

    with_batcher(double.url, work, most=3)
    assert double.batches == [3, 3]  # and one alone


def test_no_turn_waits_for_the_slowest(double: Double) -> None:
    double.misbehave.append(lambda _: asyncio.sleep(30))

    async def work(batcher: Batcher) -> None:
        slow, *others = (asyncio.create_task(batcher.generate(body(i))) for i in range(4))
        told = await asyncio.gather(*others)
        assert [one["output_ids"] for one in told] == answers(4)[1:]
        assert not slow.done() and double.batches == [4]
        slow.cancel()

    with_batcher(double.url, work)


@pytest.mark.parametrize("status", [400, 503])
def test_a_turn_that_is_refused_harms_no_other_and_hears_why(double: Double, status: int) -> None:
    def refuse(_: Any) -> web.Response:
        return web.json_response({"error": "no such thing"}, status=status)

    double.misbehave += [refuse, lambda _: None, lambda _: None, refuse]  # the last one when it is asked alone
    refused, *others = with_batcher(double.url, lambda batcher: ask(batcher, 3))
    assert others == answers(3)[1:]
    assert isinstance(refused, PolicyError) and isinstance(refused, PolicyUnavailable) == (status == 503)
    assert f"answers {status}: no such thing" in str(refused)
    assert str(refused).startswith("turn 0: ") == (status == 400)
    # Two seconds after a batch the server aborts whatever has a name of it.
    assert len({turn["rid"] for turn in double.turns}) == 4


def test_a_turn_that_is_refused_is_asked_again_before_the_others_are_done(double: Double) -> None:
    double.misbehave += [lambda _: web.Response(status=503), lambda _: asyncio.sleep(30)]

    async def work(batcher: Batcher) -> None:
        turns = [asyncio.create_task(batcher.generate(body(i))) for i in range(2)]
        assert (await turns[0])["output_ids"] == answers(1)[0]
        turns[1].cancel()

    with_batcher(double.url, work)


def scripted(double: Double, batch: Callable[[dict[str, Any]], list[bytes] | web.Response]) -> None:
    """The double answers a request for several turns with these events; turns alone as ever."""

    async def told(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        if not asked.get("stream"):
            double.requests.append(asked)
            return web.json_response(double.answer(asked))
        said = batch(asked)
        if isinstance(said, web.Response):
            return said
        return web.Response(
            body=b"".join(b"data: " + event + b"\n\n" for event in said), content_type="text/event-stream"
        )

    double.answers = told


def done(double: Double, asked: dict[str, Any], i: int) -> bytes:
    """The event of a turn that is done."""
    turn = {name: value[i] for name, value in asked.items() if name != "stream"}
    return json.dumps(double.answer(turn, id=turn["rid"])).encode()


REFUSAL = b'{"error": {"message": "turn 2 is no good", "code": 400}}'


@pytest.mark.parametrize(
    "batch",
    [
        lambda double, asked: web.json_response({"error": "rid: expected a string"}, status=422),
        lambda double, asked: [REFUSAL, b"[DONE]"],
        lambda double, asked: [done(double, asked, 1), REFUSAL, b"[DONE]"],
    ],
)
def test_what_is_refused_together_is_asked_alone(double: Double, batch: Any) -> None:
    scripted(double, lambda asked: batch(double, asked))
    assert with_batcher(double.url, lambda batcher: ask(batcher, 3)) == answers(3)


@pytest.mark.parametrize(
    "rest",
    [
        [b"[DONE]"],
        [],
        [b"{"],
        [b"[]"],
        [b'{"output_ids": [1], "meta_info": {"id": "another", "finish_reason": {"type": "stop"}}}'],
    ],
)
def test_an_answer_that_breaks_off_keeps_what_is_done_and_the_rest_is_asked_alone(
    double: Double, rest: list[bytes]
) -> None:
    scripted(double, lambda asked: [done(double, asked, 1), *rest])
    assert with_batcher(double.url, lambda batcher: ask(batcher, 3)) == answers(3)
    assert [turn["input_ids"] for turn in double.requests] == [[0], [2]]


def test_a_server_that_streams_only_what_is_new_is_asked_alone_from_then_on(double: Double) -> None:
    def last_token(asked: dict[str, Any], i: int) -> bytes:
        event = json.loads(done(double, asked, i))
        event["output_ids"], event["meta_info"]["completion_tokens"] = event["output_ids"][1:], 3
        return json.dumps(event).encode()

    batches = []

    def batch(asked: dict[str, Any]) -> list[bytes]:
        batches.append(len(asked["rid"]))
        return [*(last_token(asked, i) for i in range(3)), b"[DONE]"]

    async def work(batcher: Batcher) -> None:
        assert await ask(batcher, 3) == answers(3)
        assert await ask(batcher, 3) == answers(3)

    scripted(double, batch)
    with_batcher(double.url, work)
    assert batches == [3]


def test_a_lost_connection_keeps_the_turns_that_are_done(double: Double) -> None:
    async def drop(_: Any) -> Any:
        await asyncio.sleep(0.2)
        return DROP

    double.misbehave.append(drop)
    first, *others = with_batcher(double.url, lambda batcher: ask(batcher, 3))
    assert others == answers(3)[1:]
    assert isinstance(first, PolicyUnavailable) and "cannot be reached" in str(first)


def test_the_time_without_an_answer_begins_anew_with_every_turn_that_is_done(double: Double) -> None:
    def after(seconds: float) -> Callable[[Any], Any]:
        return lambda _: asyncio.sleep(seconds)

    double.misbehave += [after(0.3), after(0.6), after(0.9), after(30)]
    *found, silent = with_batcher(double.url, lambda batcher: ask(batcher, 4), timeout=0.5)
    assert found == answers(4)[:3]
    assert isinstance(silent, NoAnswer)


def test_a_turn_that_is_given_up_is_aborted_and_the_others_go_on(double: Double) -> None:
    async def work(batcher: Batcher) -> None:
        async def until_aborted(turn: dict[str, Any]) -> web.Response:
            while turn["rid"] not in double.aborted:
                await asyncio.sleep(0.01)
            answer = double.answer(turn, id=turn["rid"], finish_reason={"type": "abort", "message": "aborted"})
            return web.json_response(answer)

        async def later(_: Any) -> None:
            await asyncio.sleep(0.5)

        double.misbehave += [until_aborted, later]
        first, *others = (asyncio.create_task(batcher.generate(body(i))) for i in range(3))
        while len(double.turns) < 3:
            await asyncio.sleep(0.01)
        first.cancel()
        told = await asyncio.gather(*others)
        assert [one["output_ids"] for one in told] == answers(3)[1:]
        assert double.aborted == [double.turns[0]["rid"]] and len(double.turns) == 3

    with_batcher(double.url, work)


def test_a_request_ends_when_nobody_waits_for_its_turns_and_one_that_was_not_sent_is_never(double: Double) -> None:
    async def work(batcher: Batcher) -> None:
        double.misbehave += [lambda _: asyncio.sleep(30)] * 2
        turns = [asyncio.create_task(batcher.generate(body(i))) for i in range(2)]
        while len(double.turns) < 2:
            await asyncio.sleep(0.01)
        for turn in turns:
            turn.cancel()
        await asyncio.sleep(0.05)
        assert not batcher._requests

        waits = asyncio.create_task(batcher.generate(body(3)))
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.sleep(0.05)
        assert len(double.turns) == 2

    with_batcher(double.url, work)


EVENT = json.loads(done(Double(), {name: [value] for name, value in body(10).items()} | {"rid": ["10-test"]}, 0))


@pytest.mark.fault("item 23: an event of SGLang in which one part is something else")
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(told=with_one_part_replaced(EVENT))
def test_whatever_an_event_says_every_turn_is_one_or_an_error(double: Double, told: Any) -> None:
    async def both() -> list[Answer | BaseException]:
        async with aiohttp.ClientSession() as session:
            server = Server(double.url, session, 5)
            server.vocabulary = V
            turns = [asyncio.create_task(server.generate((i,), PARAMS)) for i in (10, 20)]
            found = await asyncio.gather(*turns, return_exceptions=True)
            await server.settle()
            return found

    def batch(asked: dict[str, Any]) -> list[bytes]:
        text = json.dumps(told).replace("10-test", asked["rid"][0])
        return [text.encode(errors="surrogatepass"), done(double, asked, 1), b"[DONE]"]

    scripted(double, batch)
    for found in asyncio.run(both()):
        if isinstance(found, Answer):
            assert all(math.isfinite(value) for value in found.logprobs)
            assert 1 <= len(found.ids) == len(found.logprobs) <= 3 and max(found.ids) < V
        else:
            assert isinstance(found, PolicyUnavailable)
