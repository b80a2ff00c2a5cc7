"""Replies of models whose chat template opens the thought, against a server that honours stop strings."""

import asyncio

import pytest

from at2po_agent.judge.config import LimitConfig, ModelConfig
from at2po_agent.judge.endpoint.client import Call, ChatEndpoint
from at2po_agent.judge.endpoint.conversation import turn_of
from tests.helpers.chat_server import Say

STOP = ("</search>", "</answer>")
CALL = Call(({"role": "user", "content": "Who?"},), 16, stop=STOP)
THOUGHT = "It says <search>query</search>.\n"


def model(text, finish="stop"):
    """A script: the model writes ``text``; the server ends it before the first stop string, and does not say which."""

    def script(asked):
        ends = [text.index(end) for end in asked.body.get("stop", ()) if end in text]
        return Say(text[: min(ends)], finish="stop") if ends else Say(text, finish=finish)

    return script


def turns(server, calls=1, at_once=False):
    async def run():
        async with ChatEndpoint(ModelConfig("m", server.url), LimitConfig(retries=0), concurrency=8) as endpoint:
            if at_once:
                return await asyncio.gather(*(endpoint.complete(CALL) for _ in range(calls)))
            return [await endpoint.complete(CALL) for _ in range(calls)]

    return [turn_of(reply, STOP) for reply in asyncio.run(run())]


@pytest.mark.fault("C: stop strings inside a thought that the template opened")
@pytest.mark.parametrize("at_once", [False, True])
def test_a_thought_that_only_closes_is_never_cut_by_what_it_quotes(serve, at_once):
    server = serve(model(f"{THOUGHT}</think>\n<answer>a</answer> and more"))
    assert turns(server, 3, at_once) == [f"{THOUGHT}</think>\n<answer>a</answer>"] * 3
    # Once it is known, stop strings are not sent.
    assert ["stop" in asked.body for asked in server.asked].count(True) == (3 if at_once else 1)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("I look. <search>town</search>", 4),
        ("<search>town</search>", 3),
        ("<think>I look.</think><search>town</search>", 3),
    ],
)
def test_a_model_that_does_not_begin_inside_a_thought_is_asked_again_once_at_most(serve, text, asked):
    server = serve(model(text))
    assert turns(server, 3) == [text] * 3
    assert server.count == asked


@pytest.mark.fault("C: stop strings inside a thought that the template opened")
def test_a_thought_that_the_token_limit_ends_is_no_action(serve):
    first, endless = model(f"{THOUGHT}</think><answer>a</answer>"), model(f"{THOUGHT} And", finish="length")
    server = serve(lambda asked: first(asked) if asked.number < 2 else endless(asked))
    assert turns(server, 2) == [f"{THOUGHT}</think><answer>a</answer>", ""]


def test_a_tag_that_a_model_closed_by_mistake_does_not_make_its_other_replies_thoughts(serve):
    first, later = model("Hm.</think><answer>a</answer>"), model("I look. <search>town</search>")
    server = serve(lambda asked: first(asked) if asked.number == 0 else later(asked))
    assert turns(server, 2) == ["Hm.</think><answer>a</answer>", "I look. <search>town</search>"]


def test_whole_replies_that_show_nothing_are_asked_for_three_times_at_most(serve):
    server = serve(model("I look. <search>town</search> la la la", finish="length"))
    assert turns(server, 5) == ["I look. <search>town</search>"] * 5
    assert server.count == 8
