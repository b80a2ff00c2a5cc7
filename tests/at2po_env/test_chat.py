from __future__ import annotations

import json
import pickle

import pytest

from at2po_env.chat import messages
from at2po_env.dialect import CHAT, DIALECTS
from at2po_env.state import EpisodeState, UserMessage, plain
from tests.at2po_env.doubles import make_env

TURNS = ("<think>a</think><search>Tower A</search>", "<search>Paris</search>", "<answer>Paris</answer>")


def play(dialect, turns=TURNS):
    env = make_env(dialect=dialect, k=1)
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


def test_what_was_said_is_read_back_as_what_was_done():
    """Round trip: every assistant message parses into its turn's action, no result into any."""
    env = play("chat")
    said = messages(env.dialect, env.state)
    assert [CHAT.parse(message["content"]) for message in said[1::2]] == [t.action for t in env.state.turns()]
    assert {CHAT.parse(message["content"]).kind for message in said[2::2]} == {"malformed"}
    for name in DIALECTS:
        other = play(name)
        assert [turn.action.content for turn in other.state.turns()] == ["Tower A", "Paris", "Paris"]
        assert other.state.ended == "answer"


def test_a_restored_episode_still_brings_messages():
    env = play("chat", TURNS[:1])
    here = env.observation()
    copies = (
        EpisodeState.from_json(json.loads(json.dumps(env.snapshot().to_json()))),
        pickle.loads(pickle.dumps(env.snapshot())),
    )
    for snapshot in copies:
        fresh = make_env(dialect="chat", k=1)
        fresh.reset(options={"snapshot": snapshot})
        assert fresh.observation() == here and isinstance(fresh.observation(), UserMessage)
