"""What is sent to an endpoint, and what its answers mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.judge.endpoint.conversation import converse, turn_of
from at2po_agent.judge.endpoint.replies import Reply
from tests.helpers.env_doubles import make_env

STOP = ("</search>", "</answer>")


@pytest.mark.parametrize(
    ("reply", "turn"),
    [
        # the endpoint honours stops and leaves them out of the text
        (Reply("<think>a</think><search>q", "stop"), "<think>a</think><search>q</search>"),
        (Reply("<answer>Paris", "stop"), "<answer>Paris</answer>"),
        (Reply("<search>q ", "stop", matched="</search>"), "<search>q </search>"),
        # it says itself that no stop string ended the text
        (Reply("<search>q", "stop", matched=""), "<search>q"),
        # it keeps them
        (Reply("<search>q</search>", "stop"), "<search>q</search>"),
        # it ignores them, and the model goes on
        (Reply("<search>q</search>\n<result>made up</result><answer>x</answer>", "stop"), "<search>q</search>"),
        (Reply("<answer>a</answer><search>b</search>", "length"), "<answer>a</answer>"),
        # and it quoted a tag while it thought
        (
            Reply("<think>I write <search>q</search></think>\n<answer>a</answer>\nmore", "stop", matched=""),
            "<think>I write <search>q</search></think>\n<answer>a</answer>",
        ),
        (
            Reply("<think>a</think>b<think></answer></think><answer>c</answer>d", "stop"),
            "<think>a</think>b<think></answer></think><answer>c</answer>",
        ),
        (Reply("<think>I write <search>q</search> and", "length"), "<think>I write <search>q</search> and"),
        # it was cut by the limit of tokens
        (Reply("<search>q", "length"), "<search>q"),
        # it ended by itself, without an action
        (Reply("I do not know.", "stop"), "I do not know."),
        (Reply("", "stop"), ""),
        # the tag that was opened last is the one that was closed
        (Reply("<search> or <answer>Paris", "stop"), "<search> or <answer>Paris</answer>"),
    ],
)
def test_a_turn_is_what_the_model_wrote_with_its_stop(reply, turn):
    assert turn_of(reply, STOP) == turn


def test_a_conversation_in_tags():
    env = make_env(dialect="chat")
    env.reset(options={"question_id": "q1"})
    talk = converse(env)
    assert "Where does Tower A stand?" in talk.messages[0]["content"]
    assert (talk.stop, talk.tools) == (STOP, ())
    action = talk.take(Reply(" <search>Tower A", "stop", reasoning="a secret thought"))
    observation, *_ = env.step(action)
    talk.observe(env.observation())
    assert talk.messages[1:] == [
        {"role": "assistant", "content": " <search>Tower A</search>"},
        {"role": "user", "content": observation},
    ]


def call(arguments: str, name: str = "search", id: str = "toolu_9"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_conversation_in_tool_calls_keeps_the_endpoints_ids():
    env = make_env(dialect="native")
    env.reset(options={"question_id": "q1"})
    talk = converse(env)
    assert talk.tools[0]["function"]["name"] == "search"
    assert talk.stop == ("</answer>",)
    first, second = call('{"query": "Tower A"}'), call('{"query": "Paris"}', id="b")
    action = talk.take(Reply("I look.", "tool_calls", tool_calls=(first, second)))
    observation, *_, info = env.step(action)
    assert info["hits"][0]["title"] == "Tower A"
    talk.observe(env.observation())
    assert talk.messages[1:] == [
        {"role": "assistant", "content": "I look.", "tool_calls": [first]},
        {"role": "tool", "tool_call_id": "toolu_9", "content": observation},
    ]
    *_, terminated, _, info = env.step(talk.take(Reply("<answer>Paris", "stop")))
    assert terminated and info["em"] == 1


def test_a_call_that_cannot_be_read_is_sent_back_as_text():
    env = make_env(dialect="native", on_malformed="continue")
    env.reset(options={"question_id": "q1"})
    talk = converse(env)
    *_, info = env.step(talk.take(Reply("", "tool_calls", tool_calls=(call("{}", name="browse"),))))
    assert info["action"]["kind"] == "malformed"
    talk.observe(env.observation())
    assert [message["role"] for message in talk.messages] == ["user", "assistant", "user"]
    assert "browse" in talk.messages[1]["content"] and "tool_calls" not in talk.messages[1]


@pytest.mark.fault("B: reasoning that quotes a tag is cut by a stop string")
@given(
    thoughts=st.lists(st.sampled_from(["a", "<search>", "</search>", "<answer>", "</answer>", "<result>"])),
    query=st.text("ab <", max_size=5),
    more=st.sampled_from(["", "</search>", "\n<result>made up</result><answer>x</answer>", "<think></search></think>"]),
)
def test_a_turn_ends_with_its_first_action_whatever_the_thought_quotes(thoughts, query, more):
    turn = f"<think>{''.join(thoughts)}</think>\n<search>{query}</search>"
    assert turn_of(Reply(turn + more, "stop", matched=""), STOP) == turn
