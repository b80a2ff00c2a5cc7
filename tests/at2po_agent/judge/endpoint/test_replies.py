import pytest

from at2po_agent.judge.endpoint.replies import Garbage, read_reply


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
