import json

import pytest

from at2po_agent.judge.endpoint.replies import Garbage, read_reply
from search_backend.outside import MOST_COUNT, Unusable, read_json
from tests.helpers.hostile_json import with_each_part_replaced


def answer(message, **choice):
    return {"choices": [{"message": message, **choice}]}


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "text",
        {},
        {"choices": []},
        {"choices": {}},
        {"choices": [None]},
        {"choices": [{"message": "text"}]},
        answer({"content": 7}),
        answer({"content": "x", "tool_calls": [{"function": {}}]}),
        answer({"content": "x"}, finish_reason="abort"),
        {"error": "busy", "choices": []},
    ],
)
def test_garbage_is_told(body):
    with pytest.raises(Garbage):
        read_reply(body, 0)


def test_an_error_in_disguise_keeps_its_status_and_has_200_without_one():
    for error, status in (({"code": 429}, 429), ({"code": "x"}, 200), ("busy", 200), ({"code": 7}, 200)):
        with pytest.raises(Garbage) as caught:
            read_reply({"error": error}, 0)
        assert caught.value.status == status


def test_reasoning_is_read_under_either_name():
    assert read_reply(answer({"content": "x", "reasoning": "hm"}), 0).reasoning == "hm"
    assert read_reply(answer({"content": None, "reasoning_content": "hm"}), 0).reasoning == "hm"


def test_what_ended_the_text_is_read_where_it_is_said():
    assert read_reply(answer({"content": "x"}), 0).matched is None  # OpenAI and llama.cpp do not say
    assert read_reply(answer({"content": "x"}, matched_stop=2), 0).matched == ""  # SGLang: an end-of-sequence token
    assert read_reply(answer({"content": "x"}, stop_reason=None), 0).matched == ""  # vLLM: the same
    assert read_reply(answer({"content": "x"}, stop_reason="</a>"), 0).matched == "</a>"


def test_calls_come_in_one_form():
    calls = [{"function": {"name": "search", "arguments": {"query": "é"}}}, {"id": 5, "function": {"name": "x"}}]
    assert read_reply(answer({"tool_calls": calls}), 0).tool_calls == (
        {"id": "call00000", "type": "function", "function": {"name": "search", "arguments": '{"query": "\\u00e9"}'}},
        {"id": "5", "type": "function", "function": {"name": "x", "arguments": "{}"}},
    )


@pytest.mark.fault("item 23: one bad answer of an endpoint ends the run (every part in turn)")
def test_whatever_a_part_is_there_is_a_sound_reply_or_an_error():
    call = {"id": "1", "function": {"name": "search", "arguments": "{}"}}
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    whole = answer(
        {"content": [{"text": "x"}], "reasoning": "r", "tool_calls": [call]},
        finish_reason="stop",
        matched_stop="</a>",
        logprobs={"content": [token]},
    )
    for made in with_each_part_replaced(whole | {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}):
        try:
            reply = read_reply(read_json(json.dumps(made)), 0)
        except Unusable:
            continue
        texts = [reply.text, reply.reasoning, reply.finish, reply.matched or ""]
        texts += [text for one in reply.tool_calls for text in (one["id"], one["type"], *one["function"].values())]
        texts += [one["token"] for one in reply.logprobs or ()]
        assert all(isinstance(text, str) for text in texts), made
        "".join(texts).encode()
        assert len(reply.finish) < 1000
        for counted in (reply.prompt_tokens, reply.completion_tokens):
            assert counted is None or (type(counted) is int and 0 <= counted <= MOST_COUNT)
        for one in reply.logprobs or ():
            value, spelled = one.get("logprob"), one.get("bytes")
            assert value is None or value != value or value <= 0.1
            assert spelled is None or bytes(spelled) is not None
