from __future__ import annotations

from dataclasses import replace

import pytest

from at2po_env.dialects import BARE, TAGS
from at2po_env.rules import Rules
from at2po_env.scoring import em_or_format_reward, em_reward
from at2po_env.state import EpisodeState, Question, plain
from search_backend.base import Hit, Passage

QUESTION = Question("q", "Who?", ("Ann",))
HITS = (Hit(Passage("1", "Ann", "Ann did."), 1.0),)
SEARCH, ANSWER, JUNK = "<search>x</search>", "<answer>Ann</answer>", "?"


def rules(**limits) -> Rules:
    return Rules(**{"dialect": BARE, "reward": em_or_format_reward, **limits})


def play(under: Rules, *actions: str) -> EpisodeState:
    state = EpisodeState.begin(QUESTION, under.digest("corpus"))
    for text in actions:
        action = under.dialect.parse(text)
        hits = HITS if under.query(state, action) is not None else ()
        state = under.advance(state, text, action, hits)
    return state


@pytest.mark.parametrize(
    ("limits", "actions", "ended", "reward", "searches"),
    [
        ({}, [ANSWER], "answer", 1, 0),
        ({}, [SEARCH, "<answer>Bob</answer>"], "answer", 0, 1),
        ({}, [SEARCH, JUNK], "malformed", -1, 1),
        ({}, [SEARCH], None, 0, 1),
        ({"max_searches": 1}, [SEARCH, SEARCH], None, 0, 1),
        ({"max_searches": 1}, [SEARCH, SEARCH, SEARCH], "search_limit", -1, 1),
        ({"max_searches": 1}, [SEARCH, SEARCH, ANSWER], "answer", 1, 1),
        ({"max_searches": 0}, [SEARCH], None, 0, 0),
        ({"max_turns": 2}, [SEARCH, SEARCH], "turn_limit", -1, 1),
        ({"max_turns": 2}, [SEARCH, ANSWER], "answer", 1, 1),
        ({"max_turns": 2}, [SEARCH, JUNK], "malformed", -1, 1),
        ({"max_turns": 2, "max_searches": 1}, [SEARCH, SEARCH], "turn_limit", -1, 1),
        ({"on_malformed": "continue"}, [JUNK, JUNK, ANSWER], "answer", 1, 0),
        ({"on_malformed": "continue", "max_turns": 2}, [JUNK, JUNK], "turn_limit", -1, 0),
        (
            {"on_malformed": "continue", "max_searches": 0, "max_turns": 4},
            [SEARCH, JUNK, SEARCH],
            "search_limit",
            -1,
            0,
        ),
    ],
)
def test_what_ends_an_episode(limits, actions, ended, reward, searches):
    state = play(rules(**limits), *actions)
    assert state.ended == ended
    assert [turn.reward for turn in state.turns()] == [0.0] * (len(actions) - 1) + [reward]
    assert (state.searches, state.depth) == (searches, len(actions))
    assert (state.turn.observation == ()) == (ended is not None)


def test_default_turns_leave_room_for_every_search_the_notice_and_the_answer():
    state = play(rules(), *[SEARCH] * 7, ANSWER)
    assert (state.ended, state.searches, state.turn.reward) == ("answer", 6, 1.0)
    assert state.turns()[6].observation == BARE.notice()


def test_a_search_that_could_not_be_read_is_not_run():
    under = rules(max_turns=1)
    state = EpisodeState.begin(QUESTION, under.digest("corpus"))
    assert under.query(state, under.dialect.parse(SEARCH)) is None
    assert rules().query(state, rules().dialect.parse("<search> a b </search>")) == "a b"


def test_a_malformed_turn_that_goes_on_says_why():
    state = play(rules(on_malformed="continue"), "<search> </search>")
    assert "the query is empty" in plain(state.turn.observation)


def test_outcomes():
    under = rules()
    assert under.outcome(play(under, SEARCH)) is None
    outcome = under.outcome(play(under, SEARCH, ANSWER))
    assert (outcome.ended, outcome.prediction, outcome.em, outcome.searches, outcome.turns) == (
        "answer",
        "Ann",
        1,
        1,
        2,
    )
    closed = under.close(play(under, SEARCH), "length_limit")
    assert (closed.ended, closed.closed, under.outcome(closed).prediction) == ("length_limit", -1.0, None)


def test_a_reward_of_ones_own_sees_the_outcome():
    under = rules(reward=lambda outcome: outcome.em - 0.1 * outcome.searches)
    assert play(under, SEARCH, SEARCH, ANSWER).turn.reward == pytest.approx(0.8)


def test_the_digest_tells_all_rules_apart():
    base = rules()
    changed = [
        replace(base, dialect=TAGS),
        replace(base, reward=em_reward),
        replace(base, k=1),
        replace(base, max_searches=5, max_turns=8),
        replace(base, max_turns=9),
        replace(base, max_observation_chars=10),
        replace(base, on_malformed="continue"),
    ]
    digests = {each.digest("corpus") for each in [base, *changed]} | {base.digest("another corpus")}
    assert len(digests) == len(changed) + 2
    assert replace(base, max_turns=8).digest("corpus") == base.digest("corpus")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("k", 0),
        ("max_searches", -1),
        ("max_turns", 0),
        ("max_observation_chars", 0),
        ("k", 1.5),
        ("k", True),
        ("k", "3"),
    ],
)
def test_bad_limits_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        rules(**{name: value})
    with pytest.raises(ValueError, match="on_malformed"):
        rules(on_malformed="ignore")
