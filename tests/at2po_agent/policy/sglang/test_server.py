"""One server over real HTTP: what its answers and its errors mean."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import aiohttp
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings

from at2po_agent.policy.base import PolicyError, PolicyUnavailable, Request, Sampling
from at2po_agent.policy.sglang.server import Answer, Server, ServerInfo, sampling_params
from at2po_agent.policy.sglang.transport import BadAnswer, NoAnswer
from tests.helpers.hostile_json import with_each_part_replaced, with_one_part_replaced
from tests.helpers.servers import free_port
from tests.helpers.sglang_double import DROP, Double, V, serving

T = TypeVar("T")
PROMPT = (10, 11, 12)
PARAMS = sampling_params(Request(PROMPT, 3, ()), Sampling(stop=()), (), None)


@pytest.fixture
def double() -> Iterator[Double]:
    with serving(Double()) as double:
        yield double


def with_server(url: str, work: Callable[[Server], Awaitable[T]], timeout: float = 5) -> T:
    async def run() -> T:
        async with aiohttp.ClientSession() as session:
            server = Server(url, session, timeout)
            try:
                return await work(server)
            finally:
                await server.settle()

    return asyncio.run(run())


def sample(double: Double, timeout: float = 5) -> Answer:
    async def work(server: Server) -> Answer:
        server.vocabulary = V
        return await server.generate(PROMPT, PARAMS, where="request (7,)")

    return with_server(double.url, work, timeout)


def answers(double: Double, change: Callable[[dict[str, Any]], None]) -> None:
    """The next answer is what ``change`` makes of it."""

    def told(body: dict[str, Any]) -> web.Response:
        answer = double.answer(body)
        change(answer)
        return web.json_response(answer)

    double.misbehave.append(told)


def test_sampling_is_from_the_whole_softmax_with_every_default_said() -> None:
    found = sampling_params(Request(PROMPT, 5, ()), Sampling(0.7, ("</s>",)), (4, 2), seed=9)
    neutral = {"top_p": 1, "top_k": -1, "min_p": 0, "repetition_penalty": 1, "min_new_tokens": 0}
    assert {name: found[name] for name in neutral} == neutral
    assert (found["temperature"], found["max_new_tokens"], found["stop"]) == (0.7, 5, ["</s>"])
    assert (found["stop_token_ids"], found["sampling_seed"]) == ([4, 2], 9)
    assert "sampling_seed" not in PARAMS


def test_an_answer_has_the_ids_that_were_sampled_and_the_weights_they_are_of(double: Double) -> None:
    spans = [{"version": "a", "start": 0, "end": 2}, {"version": "b", "start": 2, "end": 3}]
    answers(double, lambda answer: answer["meta_info"].update(weight_versions=spans, cached_tokens=2))
    found = sample(double)
    high, _ = double.logprobs(1.0)
    assert (found.ids, found.logprobs) == ((13, 14, 15), (high,) * 3)
    assert (found.finish, found.matched, found.cached_tokens) == ("length", None, 2)
    assert found.weight_versions == ("a", "b")


def test_an_older_server_names_only_the_weights_at_the_end(double: Double) -> None:
    double.version = "a"
    answers(double, lambda answer: answer["meta_info"].pop("weight_versions"))
    assert sample(double).weight_versions == ("a",)


def sampled(answer: dict[str, Any], ids: list[int]) -> None:
    """Other tokens in an answer, with their log-probabilities."""
    answer["output_ids"] = ids
    answer["meta_info"]["output_token_logprobs"] = [[-0.5, i, None] for i in ids]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda answer: answer.clear(), "not SGLang's /generate: KeyError 'meta_info'"),
        (lambda answer: answer["meta_info"].pop("cached_tokens"), "not SGLang's /generate.*cached_tokens"),
        (lambda answer: answer.update(output_ids=[1, 2, 3]), "log-probabilities of other tokens than it sampled"),
        (lambda answer: sampled(answer, []), "0 tokens where 1 to 3 were asked for"),
        (lambda answer: sampled(answer, [1, 2, 3, 4]), "4 tokens where 1 to 3 were asked for"),
        (lambda answer: sampled(answer, [V]), f"token {V}, and the model has {V}"),
    ],
)
def test_an_answer_that_cannot_be_trained_on_is_an_error(double: Double, change: Any, message: str) -> None:
    answers(double, change)
    with pytest.raises(BadAnswer, match=message) as caught:
        sample(double)
    assert double.url in str(caught.value)


def test_a_refusal_says_the_server_s_words(double: Double) -> None:
    for body in ({"error": {"message": "no such thing"}}, {"error": "no such thing"}, {"detail": "no such thing"}):
        double.misbehave.append(lambda request, body=body: web.json_response(body, status=400))
        with pytest.raises(PolicyError, match=r"request \(7,\): .* answers 400: no such thing") as caught:
            sample(double)
        assert not isinstance(caught.value, PolicyUnavailable)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_trouble_that_may_pass_is_told_from_a_refusal(double: Double, status: int) -> None:
    double.misbehave.append(lambda body: web.Response(text="<html>\n busy</html>", status=status))
    with pytest.raises(PolicyUnavailable, match=f"answers {status}: <html> busy</html>"):
        sample(double)


@pytest.mark.fault("item 28: redirects are named, not followed")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_named_and_not_followed(double: Double, status: int) -> None:
    moved = {"Location": f"{double.url}/generate"}
    double.misbehave.append(lambda body: web.Response(status=status, headers=moved))
    with pytest.raises(PolicyError, match=r"sends requests on to 'http://127.0.0.1:\d+/generate': give that address"):
        sample(double)
    assert len(double.requests) == 1


def test_a_lost_connection_and_a_server_that_is_not_there_may_pass_too(double: Double) -> None:
    double.misbehave.append(lambda body: DROP)
    with pytest.raises(PolicyUnavailable, match=f"{double.url} cannot be reached"):
        sample(double)
    with pytest.raises(PolicyUnavailable, match="cannot be reached"):
        with_server(f"http://127.0.0.1:{free_port()}", lambda server: server.info())


def test_a_hanging_server_is_given_up_after_the_timeout_and_told(double: Double) -> None:
    double.misbehave.append(lambda body: asyncio.sleep(30))
    with pytest.raises(NoAnswer, match="no answer"):
        sample(double, timeout=0.3)
    assert double.aborted == [double.turns[0]["rid"]]


def test_the_name_of_no_turn_begins_another_as_a_server_aborts_all_that_begin_with_it(double: Double) -> None:
    for _ in range(12):
        sample(double)
    with_server(double.url, lambda server: asyncio.gather(*(server.generate(PROMPT, PARAMS) for _ in range(12))))
    names = [turn["rid"] for turn in double.turns]
    assert len(names) == 24
    assert not [(one, other) for one in names for other in names if one is not other and other.startswith(one)]


def test_a_turn_that_nobody_waits_for_is_aborted_on_the_server(double: Double) -> None:
    double.misbehave.append(lambda body: asyncio.sleep(30))

    async def cancel(server: Server) -> None:
        task = asyncio.create_task(server.generate(PROMPT, PARAMS))
        while not double.turns:
            await asyncio.sleep(0.01)
        assert server.running == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.running == 0

    with_server(double.url, cancel)
    assert double.aborted == [double.turns[0]["rid"]]


def test_what_a_server_is_and_which_weights_it_has_now(double: Double) -> None:
    double.version, double.seeds = "run-3", True
    assert with_server(double.url, lambda server: server.info()) == ServerInfo("run-3", 250, True)
    with_server(double.url, lambda server: server.flush())
    assert double.flushes == 1


def test_another_kind_of_server_is_refused_at_once() -> None:
    class Other(Double):
        async def _info(self, request: web.Request) -> web.Response:
            return web.json_response({"version": "vllm"})

    with serving(Other()) as other, pytest.raises(PolicyError, match="not an SGLang server that this version knows"):
        with_server(other.url, lambda server: server.info())


ANSWER = Double().answer({"input_ids": list(PROMPT), "sampling_params": {"max_new_tokens": 3}, "top_logprobs_num": 2})


@pytest.mark.fault("item 23: an answer of SGLang in which one part is something else")
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(told=with_one_part_replaced(ANSWER))
def test_whatever_is_answered_is_a_turn_or_an_error(double: Double, told: Any) -> None:
    async def work(server: Server) -> Answer:
        server.vocabulary = V
        return await server.generate(PROMPT, PARAMS, top_logprobs=2)

    text = json.dumps(told)
    double.misbehave.append(lambda _: web.Response(text=text, content_type="application/json"))
    try:
        found = with_server(double.url, work)
    except PolicyUnavailable:
        return
    check_sound(found)


@pytest.mark.fault("item 23: an answer of SGLang in which one part is something else")
def test_whatever_a_part_of_it_is_there_is_a_turn_or_an_error(double: Double) -> None:
    shorter = Double().answer({"input_ids": [1], "sampling_params": {"max_new_tokens": 1}, "top_logprobs_num": 1})

    async def work(server: Server) -> None:
        server.vocabulary = V
        for told in with_each_part_replaced(shorter):
            text = json.dumps(told)
            double.misbehave.append(lambda _, text=text: web.Response(text=text, content_type="application/json"))
            with suppress(PolicyUnavailable):
                check_sound(await server.generate(PROMPT, PARAMS, top_logprobs=1))

    with_server(double.url, work)


def check_sound(found: Answer) -> None:
    """Whether a turn can be trained on and stored."""
    assert 1 <= len(found.ids) == len(found.logprobs) == len(found.top_logprobs) <= 3
    assert all(type(i) is int and 0 <= i < V for i in found.ids)
    assert all(math.isfinite(value) and value <= 0.1 for value in found.logprobs)
    likely = [one for entry in found.top_logprobs for one in entry]
    assert all(type(i) is int and i >= 0 and math.isfinite(value) and value <= 0.1 for i, value in likely)
    assert found.finish in ("stop", "length") and type(found.cached_tokens) is int and found.cached_tokens >= 0
    assert isinstance(found.matched, int | str | None)


INFO = {"weight_version": "run-1", "max_req_input_len": 250, "enable_deterministic_inference": False}


@pytest.mark.fault("item 23: what SGLang says of itself, of which one part is something else")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=with_one_part_replaced(INFO))
def test_whatever_a_server_says_of_itself_is_used_or_is_an_error(double: Double, told: Any) -> None:
    double.says = json.dumps(told)
    try:
        info = with_server(double.url, Server.info)
    except PolicyError:
        return
    assert type(info.max_prompt_tokens) is int and 0 <= info.max_prompt_tokens < 2**53
    assert type(info.seeds) is bool and type(info.weight_version) is str and len(info.weight_version) <= 1000


@pytest.mark.fault("item 23: an error's body of any length, and an answer that trickles in")
def test_an_error_is_read_to_a_bound_and_an_answer_in_a_time(double: Double) -> None:
    double.misbehave.append(lambda _: web.Response(status=400, text="x" * 10_000_000))
    with pytest.raises(PolicyError, match=r"answers 400: x{300}$"):
        sample(double)

    async def trickle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        with suppress(ConnectionError):
            for _ in range(100):
                await answer.write(b" ")
                await asyncio.sleep(0.1)
        return answer

    double.answers = trickle
    with pytest.raises(NoAnswer):
        sample(double, timeout=0.5)
