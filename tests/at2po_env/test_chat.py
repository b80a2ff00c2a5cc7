from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_env.chat import messages, turn_text
from at2po_env.dialects import CHAT, DIALECTS, NATIVE
from at2po_env.state import Action, EpisodeState, ToolMessage, UserMessage, plain
from search_backend.outside import well_formed
from tests.helpers.env_doubles import make_env

TURNS = ("<think>a</think><search>Tower A</search>", "<search>Paris</search>", "<answer>Paris</answer>")
CALLS = (
    "I look it up.\n" + NATIVE.write(Action("search", "Tower A")),
    NATIVE.write(Action("search", "Paris")),
    "<answer>Paris</answer>",
)


def play(dialect, turns=TURNS, **kwargs):
    env = make_env(dialect=dialect, k=1, **kwargs)
    env.reset(options={"question_id": "q1"})
    for turn in turns:
        env.step(turn)
    return env


def test_chat_alternates_turns_and_results():
    env = play("chat")
    said = messages(env.dialect, env.state)
    assert [message["role"] for message in said] == ["user", "assistant", "user", "assistant", "user", "assistant"]
    assert said[0]["content"] == plain(CHAT.prompt("Where does Tower A stand?"))
    assert [message["content"] for message in said[1::2]] == list(TURNS)
    assert said[2]["content"] == "<result>\n(1) Tower A: Tower A stands in Paris.\n</result>"


@pytest.mark.parametrize("dialect", ["tags", "bare", "search_r1"])
def test_inline_dialects_are_one_assistant_message(dialect):
    env = play(dialect, TURNS[:2])
    first, second = (plain(turn.observation) for turn in env.state.turns())
    assert messages(env.dialect, env.state)[1:] == [
        {"role": "assistant", "content": TURNS[0] + first + TURNS[1] + second}
    ]


def test_native_calls_the_tool_and_the_tool_answers():
    env = play("native", CALLS)
    assert (env.state.ended, env.state.searches) == ("answer", 2)
    said = messages(env.dialect, env.state)
    assert [message["role"] for message in said] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert said[1] == {
        "role": "assistant",
        "content": "I look it up.",
        "tool_calls": [
            {
                "id": "call00000",
                "type": "function",
                "function": {"name": "search", "arguments": '{"query": "Tower A"}'},
            }
        ],
    }
    assert said[2] == {
        "role": "tool",
        "tool_call_id": "call00000",
        "content": "(1) Tower A: Tower A stands in Paris.\n",
    }
    assert said[3]["tool_calls"][0]["id"] == said[4]["tool_call_id"] == "call00001"
    assert said[5] == {"role": "assistant", "content": "<answer>Paris</answer>"}


def test_a_call_that_cannot_be_read_is_shown_as_it_was_written_and_answered_by_the_user():
    bad = 'Hm. <tool_call>{"name": "search"}</tool_call>'
    env = play("native", [bad, CALLS[1]], on_malformed="continue")
    said = messages(env.dialect, env.state)
    assert said[1] == {"role": "assistant", "content": bad}
    assert said[2]["role"] == "user" and "query" in said[2]["content"]
    assert said[3]["tool_calls"][0]["id"] == said[4]["tool_call_id"] == "call00001"


def test_what_was_said_is_read_back_as_what_was_done():
    """Round trip: every assistant message parses into its turn's action, no result into any."""
    for dialect, turns in ((CHAT, TURNS), (NATIVE, CALLS)):
        env = play(dialect, turns)
        said = messages(env.dialect, env.state)
        assert [turn_text(message) for message in said[1::2]] == list(turns)
        assert [dialect.parse(turn_text(message)) for message in said[1::2]] == [t.action for t in env.state.turns()]
        assert {dialect.parse(message["content"]).kind for message in said[2::2]} == {"malformed"}
    for name in set(DIALECTS) - {"native"}:
        other = play(name)
        assert [turn.action.content for turn in other.state.turns()] == ["Tower A", "Paris", "Paris"]
        assert other.state.ended == "answer"


def called(name, arguments):
    return {"id": "x", "type": "function", "function": {"name": name, "arguments": arguments}}


@given(query=st.text(max_size=20), said=st.text(st.characters(exclude_characters="<"), max_size=10))
def test_a_call_of_an_endpoint_is_the_search_for_its_query(query, said):
    message = {"role": "assistant", "content": said, "tool_calls": [called("search", json.dumps({"query": query}))]}
    action = NATIVE.parse(turn_text(message))
    assert action.content == (well_formed(query).strip() or None)
    assert turn_text(message).startswith(well_formed(said))


def test_whatever_an_endpoint_answers_is_a_turn():
    two = {"content": None, "tool_calls": [called("search", '{"query": "a"}'), called("search", '{"query": "b"}')]}
    assert NATIVE.parse(turn_text(two)) == Action("search", "a")
    for name, arguments in (
        ("search", ""),
        ("search", None),
        (None, "{}"),
        ("browse", "{}"),
        ("search", "{</tool_call>"),
    ):
        assert NATIVE.parse(turn_text({"tool_calls": [called(name, arguments)]})).kind == "malformed"
    assert turn_text({"content": None, "tool_calls": None}) == turn_text({}) == ""
    assert turn_text({"content": "a\ud800"}) == "a\ufffd"


@pytest.mark.parametrize(
    ("dialect", "turn", "kind"), [("chat", TURNS[0], UserMessage), ("native", CALLS[0], ToolMessage)]
)
def test_a_restored_episode_still_brings_messages(dialect, turn, kind):
    env = play(dialect, [turn])
    here = env.observation()
    copies = (
        EpisodeState.from_json(json.loads(json.dumps(env.snapshot().to_json()))),
        pickle.loads(pickle.dumps(env.snapshot())),
    )
    for snapshot in copies:
        fresh = make_env(dialect=dialect, k=1)
        fresh.reset(options={"snapshot": snapshot})
        assert fresh.observation() == here and isinstance(fresh.observation(), kind)
