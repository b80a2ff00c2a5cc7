from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_env.episodes import Episode, EpisodeTurn, action_json
from at2po_env.state import Segment

TEXTS = st.text(max_size=8)
TURNS = st.lists(st.tuples(TEXTS, TEXTS, st.booleans(), st.floats(-9, 9), st.integers(0, 9)), max_size=5)


def grown(turns: list[tuple[str, str, bool, float, int]]) -> Episode:
    episode = Episode.begin("t", "rules", {"n": 0})
    for text, observed, data, reward, number in turns:
        turn = EpisodeTurn(text, action_json({"kind": "call"}), (Segment(observed, data),), reward)
        episode = episode.after(turn, {"n": number})
    return episode


@given(turns=TURNS, other=TURNS, closed=st.booleans())
def test_an_episode_goes_through_json_and_pickle_and_is_addressed_by_its_content(
    turns: Any, other: Any, closed: bool
) -> None:
    episode = grown(turns)
    if closed:
        episode = episode.close("length_limit", 0.5, {"reward": 0.5})
    for moved in (
        Episode.from_json(json.loads(json.dumps(episode.to_json()))),
        pickle.loads(pickle.dumps(episode)),
        copy.deepcopy(episode),
    ):
        assert moved == episode and moved.turns() == episode.turns()
        assert (moved.state, moved.depth, moved.ended, moved.scores) == (
            episode.state,
            len(turns),
            episode.ended,
            episode.scores,
        )
    assert (grown(turns) == grown(other)) == (turns == other)


def test_a_long_episode_is_pickled_without_exhausting_the_stack() -> None:
    episode = grown([("a", "b", False, 0.0, 1)] * 5000)
    assert pickle.loads(pickle.dumps(episode)) == episode


def test_a_state_is_made_of_json_values() -> None:
    for state in (object(), {"x": float("nan")}, {"x": {1, 2}}):
        with pytest.raises(TypeError, match="state of task 't' must be made of JSON values"):
            Episode.begin("t", "rules", state)
