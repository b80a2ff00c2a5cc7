"""The client against a real HTTP server that does to it what endpoints do."""

import asyncio
import json
import re
import time

import pytest

import at2po_agent.judge.endpoint.client as judged_endpoint
from at2po_agent.judge.config import LimitConfig, ModelConfig
from at2po_agent.judge.endpoint.client import Call, ChatEndpoint
from at2po_agent.judge.endpoint.refusals import ContextFull, EndpointError, Refusal
from at2po_agent.judge.endpoint.response_cache import ResponseCache
from at2po_agent.policy.base import PolicyUnavailable
from at2po_agent.rollouts.outages import Outages
from tests.helpers.chat_server import ChatServer, Say, failure
from tests.helpers.servers import free_port

FAST = LimitConfig(retries=2, retry_seconds=0.01, max_retry_seconds=0.05, request_seconds=5)
HELLO = Call(messages=({"role": "user", "content": "hello"},), max_tokens=16)


def ask(server, *calls, limits=FAST, **options):
    """The replies to calls one after another, or the error that one of them raised."""

    async def run():
        async with ChatEndpoint(ModelConfig("m", server.url), limits, **options) as endpoint:
            return [await endpoint.complete(call) for call in calls or (HELLO,)], endpoint

    return asyncio.run(run())


def after(fault, times=1):
    """A script: ``fault`` for the first requests, then an answer."""
    return lambda asked: fault if asked.number < times else Say("hi")


PASSING = {
    "429 with Retry-After": Say(status=429, headers={"Retry-After": "0.2"}, raw=b"{}"),
    "500": failure(500, "boom"),
    "503 in HTML": Say(status=503, raw=b"<html>busy</html>", content_type="text/html"),
    "408": failure(408),
    "409": failure(409),
    "dropped connection": Say(drop=True),
    "half a JSON": Say(raw=b'{"choices": [{"message": {"con'),
    "cut inside the body": Say("hi", cut_after=20),
    "HTML with 200": Say(raw=b"<html>Bad gateway</html>", content_type="text/html"),
    "an empty body": Say(raw=b""),
    "JSON that is no completion": Say(raw=b'{"ok": true}'),
    "a list": Say(raw=b"[]"),
    "a message that is a number": Say(raw=b'{"choices": [{"message": {"content": 5}}]}'),
    "an error with status 200": Say(raw=b'{"error": {"code": 502, "message": "upstream"}}'),
    "an answer that the server aborted": Say("h", finish="abort"),
    "10 MB": Say("x" * 10_000_000),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_is_outlasted(serve, name):
    server = serve(after(PASSING[name]))
    (reply,), _ = ask(server)
    assert (reply.text, server.count) == ("hi", 2)
    assert server.asked[0].body == server.asked[1].body


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_stays_ends_in_one_error(serve, name):
    server = serve(after(PASSING[name], times=100))
    with pytest.raises(PolicyUnavailable, match="tried 3 times: ") as caught:
        ask(server)
    assert server.count == 3
    assert len(str(caught.value)) < 500
    assert not isinstance(caught.value, EndpointError)


def test_an_address_where_nobody_listens_stops_everything():
    limits = LimitConfig(retries=0, retry_seconds=0.01, wait_seconds=0.3)

    class Nobody:
        url = f"http://127.0.0.1:{free_port()}/v1"

    with pytest.raises(
        EndpointError, match=r"cannot be reached, tried \d+ times in 0.3 s: the connection failed"
    ) as caught:
        ask(Nobody, limits=limits)
    assert "Check the address (-b), and that the server runs" in str(caught.value)


@pytest.mark.slow
@pytest.mark.fault("item 7: a refused connection at the very first request")
def test_a_connection_that_is_refused_from_the_start_ends_within_ten_seconds_or_waits_as_told():
    class Nobody:
        url = f"http://127.0.0.1:{free_port()}/v1"

    for limits in (LimitConfig(), LimitConfig(retries=0, wait_seconds=3)):
        started = time.monotonic()
        with pytest.raises(EndpointError, match="--wait SECONDS waits longer"):
            ask(Nobody, limits=limits)
        assert limits.wait_seconds - 1 < time.monotonic() - started < limits.wait_seconds + 1


def test_a_server_that_starts_while_it_is_waited_for_is_asked(monkeypatch):
    port, made = free_port(), []

    async def run():
        async with ChatEndpoint(ModelConfig("m", f"http://127.0.0.1:{port}/v1"), LimitConfig(retries=0)) as endpoint:
            reply = asyncio.create_task(endpoint.complete(HELLO))
            await asyncio.sleep(1.0)
            made.append(await asyncio.to_thread(ChatServer, lambda asked: Say("hi"), port=port))
            return await reply

    assert asyncio.run(run()).text == "hi"
    made[0].close()


UNKNOWN_ADDRESS = Say(raw=b'{"error": "Unexpected endpoint or method. (POST /chat/completions)"}')


@pytest.mark.fault("I: an address without /v1 that answers 200 with an error")
def test_an_error_without_a_code_before_any_answer_is_of_the_address():
    async def run(server):
        async with ChatEndpoint(ModelConfig("m", server.url), LimitConfig()) as endpoint:
            return await endpoint.complete(HELLO)

    with ChatServer(lambda asked: UNKNOWN_ADDRESS) as server:
        with pytest.raises(EndpointError, match=r"Unexpected endpoint .* address \(-b, up to and with /v1\)"):
            asyncio.run(run(server))
        assert server.count == 1


def test_an_error_without_a_code_between_answers_passes(serve):
    server = serve(lambda asked: UNKNOWN_ADDRESS if asked.number == 1 else Say("hi"))
    assert [reply.text for reply in ask(server, HELLO, HELLO)[0]] == ["hi", "hi"]


@pytest.mark.fault("W: Azure's address with ?api-version=")
def test_the_query_of_an_azure_address_goes_along_with_the_key_in_its_header(serve, monkeypatch):
    monkeypatch.setenv("AZURE_KEY", "0123456789abcdef")
    server = serve(lambda asked: Say("hi"))
    url = server.url.replace("/v1", "/openai/deployments/D?api-version=2024-10-21")

    async def run():
        async with ChatEndpoint(ModelConfig("m", url, "AZURE_KEY"), FAST) as endpoint:
            return await endpoint.complete(HELLO)

    assert asyncio.run(run()).text == "hi"
    (asked,) = server.asked
    assert asked.path == "/openai/deployments/D/chat/completions?api-version=2024-10-21"
    assert asked.headers["api-key"] == "0123456789abcdef"


def test_an_endpoint_that_goes_away_later_ends_episodes_and_not_the_run():
    server = ChatServer(lambda asked: Say("hi"))

    async def run():
        async with ChatEndpoint(ModelConfig("m", server.url), FAST) as endpoint:
            await endpoint.complete(HELLO)
            server.close()
            await endpoint.complete(HELLO)

    with pytest.raises(PolicyUnavailable) as caught:
        asyncio.run(run())
    assert not isinstance(caught.value, EndpointError)


def test_an_endpoint_that_does_not_answer_for_a_while_is_said(serve, monkeypatch):
    lines: list[str] = []
    server = serve(after(failure(500, "warming up"), times=2))
    ask(server, outages=Outages(lines.append))
    assert lines == []  # single requests may fail
    monkeypatch.setattr(judged_endpoint, "PATIENCE_SECONDS", 0.0)
    server = serve(after(failure(500, "warming up"), times=2))
    ask(server, outages=Outages(lines.append))
    assert [line.split(";")[0] for line in lines] == [
        "endpoint does not answer: HTTP 500: warming up",
        "endpoint is back after 0 s",
    ]


@pytest.mark.parametrize(
    "fault", [Say("late", delay=30), Say(trickle=0.02), Say("hi", headers={"X": "y"}, delay=30)], ids=str
)
def test_an_answer_that_does_not_end_is_cut_at_the_limit(serve, fault):
    server = serve(after(fault, times=100))
    started = time.monotonic()
    # Long enough for a busy machine to have sent the request by then.
    limits = LimitConfig(retries=1, retry_seconds=0.01, request_seconds=1.5)
    with pytest.raises(PolicyUnavailable, match=r"no complete answer within 1\.5 s"):
        ask(server, limits=limits)
    assert time.monotonic() - started < 10
    assert server.count == 2


def test_json_under_another_content_type_is_an_answer(serve):
    server = serve(lambda asked: Say("hi", content_type="text/plain"))
    assert ask(server)[0][0].text == "hi"


def test_retry_after_is_the_least_that_is_waited_by_everybody(serve):
    server = serve(after(Say(status=429, headers={"Retry-After": "1"}, raw=b"{}")))
    times: list[float] = []
    script = server.script
    server.script = lambda asked: times.append(time.monotonic()) or script(asked)

    async def run():
        async with ChatEndpoint(ModelConfig("m", server.url), FAST, concurrency=8) as endpoint:
            first = asyncio.create_task(endpoint.complete(HELLO))
            while not times:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)  # the refusal has arrived
            assert endpoint.pacer.limit == 4
            await asyncio.gather(first, endpoint.complete(HELLO))

    asyncio.run(run())
    assert len(times) == 3
    assert min(times[1:]) - times[0] >= 1


def busy(seconds):
    return Say(status=429, headers={"Retry-After": seconds}, raw=b'{"error": {"message": "slow down"}}')


@pytest.mark.fault("R3: a long Retry-After")
def test_a_pause_that_an_endpoint_asks_for_is_said_at_once_and_once(serve):
    lines: list[str] = []
    server = serve(lambda asked: busy("120"))

    async def run():
        outages = Outages(lines.append)
        async with ChatEndpoint(ModelConfig("m", server.url), FAST, concurrency=4, outages=outages) as endpoint:
            async with asyncio.timeout(1):
                await asyncio.gather(*(endpoint.complete(HELLO) for _ in range(4)))

    with pytest.raises(TimeoutError):
        asyncio.run(run())
    assert lines == [f"{server.url} asks for a pause of 120 s: HTTP 429: slow down"]


@pytest.mark.fault("R3: a long Retry-After")
def test_a_pause_beyond_the_limit_ends_the_run_with_what_to_do(serve):
    server = serve(lambda asked: busy("7200") if asked.number else Say("hi"))
    started = time.monotonic()
    with pytest.raises(EndpointError, match=r"asks for a pause of 7,200 s \(HTTP 429: slow down\)") as caught:
        ask(server, HELLO, HELLO)
    assert "limits.max_retry_after_seconds=300. Continue later with --resume" in str(caught.value)
    assert time.monotonic() - started < 5 and server.count == 2


def test_a_higher_limit_waits(serve):
    lines: list[str] = []
    server = serve(after(busy("0.2")))
    limits = LimitConfig(retries=2, retry_seconds=0.01, max_retry_after_seconds=0.1)
    with pytest.raises(EndpointError):
        ask(server, limits=limits)
    server = serve(after(busy("0.2")))
    assert ask(server, outages=Outages(lines.append))[0][0].text == "hi"
    assert lines == []  # too short to be worth a line


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (failure(401, "bad key"), "HTTP 401: bad key. Check the key"),
        (failure(403), "HTTP 403"),
        (failure(404, "no model m"), "no model m. Check the model's name"),
        (failure(429, "pay", code="insufficient_quota"), "quota is used up"),
        (failure(400, "temperature is odd"), "temperature is odd"),
        (Say(status=405, raw=b"nope", content_type="text/plain"), "nope. Check the address"),
    ],
)
def test_what_no_request_can_get_past_stops_at_once(serve, fault, message):
    server = serve(lambda asked: fault)
    with pytest.raises(EndpointError, match=message) as caught:
        ask(server)
    assert server.count == 1
    assert f"{server.url} refuses model 'm'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refusal_after_answers_is_of_that_request_alone(serve):
    server = serve(lambda asked: Say("hi") if asked.number == 0 else failure(400, "content policy"))
    with pytest.raises(Refusal, match="content policy") as caught:
        ask(server, HELLO, HELLO)
    assert not isinstance(caught.value, EndpointError | ContextFull)
    assert server.count == 2


@pytest.mark.parametrize(
    "fault",
    [
        failure(400, "This model's maximum context length is 8192 tokens", code="context_length_exceeded"),
        failure(400, "the request exceeds the available context size", type="exceed_context_size_error"),
        Say(status=400, raw=b'{"object": "error", "message": "The input (90 tokens) is longer than the model\'s"}'),
        failure(413, "prompt is too long: 200001 tokens > 200000 maximum"),
    ],
)
def test_a_conversation_that_is_too_long_is_told_apart(serve, fault):
    with pytest.raises(ContextFull):
        ask(serve(lambda asked: fault))


def too_many(prompt, asked, window):
    total = prompt + asked
    return failure(400, f"maximum context length is {window} tokens. However, you requested {total} tokens")


@pytest.mark.fault("item 4: a prompt fits and prompt + max_tokens does not")
def test_a_request_whose_tokens_do_not_fit_is_sent_again_with_as_many_as_fit(serve, tmp_path):
    server = serve(lambda a: too_many(90, a.body["max_tokens"], 100) if a.body["max_tokens"] > 10 else Say("hi"))
    with ResponseCache(tmp_path / "answers.db") as cache:
        (first, second), _ = ask(server, HELLO, HELLO, cache=cache)
    assert (first.text, second.text) == ("hi", "hi")
    assert [asked.body for asked in server.asked] == [server.asked[0].body, {**server.asked[0].body, "max_tokens": 9}]


def test_what_fits_is_asked_for_once(serve):
    server = serve(lambda asked: too_many(90, asked.body["max_tokens"], 100))
    with pytest.raises(ContextFull):
        ask(server)
    assert server.count == 2


def test_what_fits_is_asked_for_under_the_endpoints_own_name(serve):
    def script(asked):
        if "max_tokens" in asked.body:
            return failure(400, "'max_tokens' is not supported", param="max_tokens")
        asked_for = asked.body["max_completion_tokens"]
        return too_many(90, asked_for, 100) if asked_for > 10 else Say("hi")

    server = serve(script)
    assert ask(server)[0][0].text == "hi"
    assert server.asked[-1].body["max_completion_tokens"] == 9


def test_a_server_that_does_not_count_to_the_end_says_itself_what_fits(serve):
    said = "maximum context length is 100 tokens. However, you requested 16 output tokens and your prompt contains "
    fault = failure(400, f"{said} at least 85 input tokens, for a total of at least 101 tokens.")
    server = serve(lambda asked: fault if "max_tokens" in asked.body else Say("hi"))
    assert ask(server)[0][0].text == "hi"


QUOTED = "I write <search>your query"
CUT = {
    "vLLM": Say(None, message={"reasoning_content": QUOTED}, choice={"stop_reason": "</search>"}),
    "SGLang": Say("", message={"reasoning_content": QUOTED}, choice={"matched_stop": "</search>"}),
    "without saying why": Say(None, message={"reasoning": QUOTED}),
    "hidden reasoning": Say("\n", choice={"stop_reason": "</search>"}),
    "no parser of reasoning": Say(f"<think>{QUOTED}"),
}
STOPPED = Call(HELLO.messages, 16, stop=("</search>", "</answer>"))


@pytest.mark.fault("B: reasoning that quotes a tag is cut by a stop string")
@pytest.mark.parametrize("name", CUT)
def test_what_was_cut_inside_the_reasoning_is_asked_for_again_without_stop_strings(serve, tmp_path, name):
    server = serve(lambda asked: CUT[name] if "stop" in asked.body else Say("<search>q</search> and more"))
    with ResponseCache(tmp_path / "answers.db") as cache:
        replies, _ = ask(server, STOPPED, STOPPED, cache=cache)
    assert [(reply.text, reply.matched) for reply in replies] == [("<search>q</search> and more", "")] * 2
    first, second = [asked.body for asked in server.asked]
    assert second == {name: value for name, value in first.items() if name != "stop"}


@pytest.mark.parametrize(
    "say",
    [
        Say(None, message={"reasoning": QUOTED}, finish="length"),
        Say(None, message={"reasoning": "I do not know."}, choice={"stop_reason": None}),
        Say("<think>I <search></think><search>q", message={"reasoning": QUOTED}, choice={"stop_reason": "</search>"}),
        Say(""),
    ],
)
def test_what_was_not_cut_inside_the_reasoning_is_taken_as_it_is(serve, say):
    server = serve(lambda asked: say)
    (reply,), _ = ask(server, STOPPED)
    assert (reply.text, server.count) == (say.text or "", 1)


def test_an_endpoint_that_takes_no_stop_strings_is_not_asked_twice(serve):
    server = serve(lambda a: failure(400, "no", param="stop") if "stop" in a.body else CUT["without saying why"])
    ask(server, STOPPED)
    assert server.count == 2


def test_fields_that_an_endpoint_does_not_know_are_left_out_or_renamed(serve):
    def script(asked):
        if "stop" in asked.body:
            return failure(400, "Unsupported parameter: 'stop'", param="stop", code="unsupported_parameter")
        if "max_tokens" in asked.body:
            return failure(400, "'max_tokens' is not supported. Use 'max_completion_tokens' instead.")
        return Say("hi")

    server = serve(script)
    (first, second), endpoint = ask(server, *[Call(HELLO.messages, 16, stop=("x",))] * 2)
    assert (first.text, second.text, server.count) == ("hi", "hi", 4)
    assert server.asked[-1].body == {
        "model": "m",
        "messages": list(HELLO.messages),
        "temperature": 0.0,
        "max_completion_tokens": 16,
    }
    assert endpoint.renamed == {"stop": None, "max_tokens": "max_completion_tokens"}


@pytest.mark.fault("A: a parameter renamed or dropped while several requests are in flight")
@pytest.mark.parametrize("field", ["max_tokens", "seed", "stop"])
def test_requests_that_were_sent_before_a_field_was_refused_are_sent_again(serve, field):
    def script(asked):
        if field not in asked.body:
            return Say("hi")
        refusal = failure(400, f"Unsupported parameter: '{field}' is not supported with this model.", param=field)
        refusal.delay = 0.05 * (asked.number + 1)  # one after another, all of them after the last was sent
        return refusal

    server = serve(script)
    call = Call(HELLO.messages, 16, stop=("x",), seed=1)

    async def run():
        async with ChatEndpoint(ModelConfig("m", server.url), FAST, concurrency=8) as endpoint:
            return await asyncio.gather(*(endpoint.complete(call) for _ in range(8)))

    assert [reply.text for reply in asyncio.run(run())] == ["hi"] * 8
    assert server.count == 16


def test_a_field_that_is_refused_although_it_was_left_out_ends_the_run(serve):
    server = serve(lambda asked: failure(400, "no", param="seed"))
    with pytest.raises(EndpointError, match="HTTP 400: no"):
        ask(server, Call(HELLO.messages, 16, seed=1))
    assert server.count == 2


@pytest.mark.fault("G: a field of the request that has to be left out")
@pytest.mark.parametrize("nothing", [None, "omit"])
def test_a_field_of_the_request_can_be_left_out(serve, nothing):
    fault = failure(400, "Only the default is supported", param="temperature", code="unsupported_value")
    server = serve(lambda asked: fault if "temperature" in asked.body else Say("hi"))
    with pytest.raises(EndpointError, match=r"Try -T 1, or leave it out with request\.temperature=omit"):
        ask(server)
    (reply,), _ = ask(server, request={"temperature": nothing, "top_p": 0.5})
    assert reply.text == "hi"
    assert server.asked[-1].body == {"model": "m", "messages": list(HELLO.messages), "max_tokens": 16, "top_p": 0.5}


@pytest.mark.fault("item 6: stop strings refused in xAI's words")
def test_stop_strings_can_be_left_out_and_are_not_asked_about_again(serve):
    server = serve(lambda asked: CUT["without saying why"])
    ask(server, STOPPED, request={"stop": None})
    assert (server.count, "stop" in server.asked[0].body) == (1, False)


def test_everything_that_is_asked_is_sent_and_everything_that_comes_is_read(serve):
    tokens = [{"token": "hi", "logprob": -0.5, "top_logprobs": [{"token": "hi", "logprob": -0.5}]}]
    call = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    message = {"reasoning_content": "hm", "tool_calls": [call]}
    choice = {"logprobs": {"content": tokens}, "matched_stop": "</search>"}
    server = serve(lambda asked: Say(None, message=message, choice=choice, finish="tool_calls"))
    tool = {"type": "function", "function": {"name": "search"}}
    asked = Call(HELLO.messages, 9, 0.7, ("</a>",), seed=3, tools=(tool,), top_logprobs=2)
    (reply,), _ = ask(server, asked, request={"top_p": 0.9})
    assert server.asked[0].body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 9,
        "temperature": 0.7,
        "stop": ["</a>"],
        "seed": 3,
        "tools": [tool],
        "logprobs": True,
        "top_logprobs": 2,
        "top_p": 0.9,
    }
    assert (reply.text, reply.reasoning, reply.finish, reply.matched) == ("", "hm", "tool_calls", "</search>")
    assert (reply.tool_calls, reply.logprobs) == ((call,), tuple(tokens))
    assert (reply.prompt_tokens, reply.completion_tokens) == (100, 0)
    assert reply.seconds > 0


def test_text_in_parts_and_lone_surrogates_become_text(serve):
    parts = [{"type": "text", "text": "a\ud800"}, {"type": "other"}, {"type": "text", "text": "b"}]
    server = serve(lambda asked: Say(raw=json.dumps({"choices": [{"message": {"content": parts}}]}).encode()))
    (reply,), _ = ask(server)
    assert (reply.text, reply.finish, reply.prompt_tokens) == ("a�b", "", None)


def test_nothing_of_another_account_is_sent(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-endpoint")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-elsewhere")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-elsewhere")
    server = serve(lambda asked: Say("hi"))
    ask(server)
    assert not any("another" in value or "elsewhere" in value for value in server.asked[0].headers.values())


def test_what_a_server_says_at_length_is_cut_but_never_inside_the_key(serve, monkeypatch):
    key = "sk-0123456789-very-secret"
    monkeypatch.setenv("LONG_KEY", key)
    message = "x" * 290 + key + "y" * 1000  # the cut at 300 would leave a part that is not found
    server = serve(lambda asked: failure(403, message))

    async def run():
        async with ChatEndpoint(ModelConfig("m", server.url, "LONG_KEY"), FAST) as endpoint:
            await endpoint.complete(HELLO)

    with pytest.raises(EndpointError, match=r"x\[key\]y+…") as caught:
        asyncio.run(run())
    assert "sk-" not in str(caught.value) and len(str(caught.value)) < 500


def test_the_cache_answers_equal_requests_of_equal_samples(serve, tmp_path):
    server = serve(lambda asked: Say(f"answer {asked.number}"))
    again = Call(HELLO.messages, 16, sample=1)
    with ResponseCache(tmp_path / "answers.db") as cache:
        replies, _ = ask(server, HELLO, HELLO, again, Call(HELLO.messages, 17), cache=cache)
    assert [reply.text for reply in replies] == ["answer 0", "answer 0", "answer 1", "answer 2"]
    with ResponseCache(tmp_path / "answers.db") as cache:  # another process, later
        replies, _ = ask(server, again, HELLO, cache=cache)
        assert [reply.text for reply in replies] == ["answer 1", "answer 0"]
        assert ask(server, HELLO, cache=cache, request={"top_p": 0.5})[0][0].text == "answer 3"
    assert server.count == 4


def test_errors_are_not_cached(serve, tmp_path):
    server = serve(after(failure(500), times=3))
    with ResponseCache(tmp_path / "answers.db") as cache:
        with pytest.raises(PolicyUnavailable):
            ask(server, cache=cache)
        assert ask(server, cache=cache)[0][0].text == "hi"


@pytest.mark.fault("item 28: redirects are not followed")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://u:pw@new.example/v1/chat/completions?key=pw#pw", "https://new.example/v1, give it with -b"),
        ("/v2/chat/completions", "/v2, give it with -b"),
        ("http://[pw", "an address that cannot be read"),
    ],
)
def test_a_redirect_says_where_to_and_sends_the_key_nowhere(serve, status, location, shown):
    server = serve(lambda asked: Say(status=status, headers={"Location": location}, raw=b""))
    with pytest.raises(EndpointError, match=re.escape(shown)) as caught:
        ask(server)
    assert server.count == 1 and "pw" not in str(caught.value)
