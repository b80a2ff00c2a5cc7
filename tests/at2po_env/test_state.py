from __future__ import annotations

import copy
import json
import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from at2po_env.errors import SnapshotError
from at2po_env.snapshots import chain
from at2po_env.state import Action, EpisodeState, Question, Segment, Turn
from search_backend.base import Hit, Passage
from search_backend.outside import well_formed
from tests.helpers.hostile_json import part_at

QUESTION = Question("q", "Who?", ("Ann", "Bob"), ("Ann",), {"hops": 2, "plan": ["a", ["b"]]})


def turn(text="<search>x</search>", observation="found", reward=0.0) -> Turn:
    hits = (Hit(Passage("1", "T", "t"), 1.25),)
    return Turn(text, Action("search", "x"), (Segment(observation, True),), hits, reward)


def episode(depth: int, rules: str = "rules") -> EpisodeState:
    state = EpisodeState.begin(QUESTION, rules)
    for n in range(depth):
        state = state.after(turn(observation=str(n)), searches=n + 1, notified=False, ended=None)
    return state


def test_a_chain_of_strings_keeps_them_apart():
    assert chain("ab", "c") != chain("a", "bc") != chain("abc")
    assert chain("a") == chain("a")
    assert chain("\ud800") != chain("?")


def test_equal_content_has_an_equal_address():
    assert episode(3) == episode(3)
    assert len({episode(3), episode(3), episode(2)}) == 2
    assert episode(2, "other corpus") != episode(2)
    assert EpisodeState.begin(Question("q", "Who?", ("Ann",)), "rules") != EpisodeState.begin(QUESTION, "rules")


@pytest.mark.parametrize(
    "other",
    [
        lambda s: s.after(turn(text="y"), searches=1, notified=False, ended=None),
        lambda s: s.after(turn(observation="y"), searches=1, notified=False, ended=None),
        lambda s: s.after(turn(reward=1.0), searches=1, notified=False, ended=None),
        lambda s: s.after(turn(), searches=2, notified=False, ended=None),
        lambda s: s.after(turn(), searches=1, notified=True, ended=None),
        lambda s: s.after(turn(), searches=1, notified=False, ended="malformed"),
        lambda s: s.close("length_limit", -1.0),
    ],
)
def test_the_address_covers_what_a_turn_changes(other):
    root = EpisodeState.begin(QUESTION, "rules")
    assert other(root) != root.after(turn(), searches=1, notified=False, ended=None)


def test_segments_cannot_trade_places_with_scaffold():
    root = EpisodeState.begin(QUESTION, "rules")
    one, two = (
        root.after(Turn("x", Action("malformed"), text, (), 0.0), searches=0, notified=False, ended=None)
        for text in ((Segment("a", True), Segment("b", False)), (Segment("a", False), Segment("b", True)))
    )
    assert one != two


def test_turns_and_lineage_share_the_past():
    state = episode(3)
    assert [t.observation[0].text for t in state.turns()] == ["0", "1", "2"]
    assert [s.depth for s in state.lineage()] == [3, 2, 1, 0]
    left = state.after(turn(text="l"), searches=4, notified=False, ended=None)
    right = state.after(turn(text="r"), searches=4, notified=False, ended=None)
    assert left.parent is right.parent is state


@pytest.mark.parametrize("state", [episode(0), episode(3), episode(2).close("length_limit", -1.0)])
def test_json_round_trip_is_exact(state):
    again = EpisodeState.from_json(json.loads(json.dumps(state.to_json())))
    assert again == state
    assert again.turns() == state.turns()
    assert (again.depth, again.searches, again.notified, again.ended, again.closed) == (
        (state.depth, state.searches, state.notified, state.ended, state.closed)
    )
    assert again.question == state.question
    assert [s.digest for s in again.lineage()] == [s.digest for s in state.lineage()]


@given(st.lists(st.tuples(st.text().map(well_formed), st.text().map(well_formed)), max_size=4))
def test_any_text_survives_json_and_pickle(turns):
    state = EpisodeState.begin(QUESTION, "rules")
    for text, observation in turns:
        state = state.after(turn(text, observation), searches=0, notified=False, ended=None)
    moved = EpisodeState.from_json(json.loads(json.dumps(state.to_json())))
    assert moved == state == pickle.loads(pickle.dumps(state))
    assert moved.turns() == state.turns()


def test_a_very_deep_episode_moves_without_recursion():
    state = episode(3_000)
    for moved in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state), EpisodeState.from_json(state.to_json())):
        assert moved == state
        assert moved.depth == 3_000
        assert len(moved.turns()) == 3_000
        assert moved.parent == state.parent
    assert hash(state) == hash(moved)
    del state, moved  # nor does freeing it


def _changed(data, *path, value):
    data = json.loads(json.dumps(data))
    here = data
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return data


@pytest.mark.parametrize(
    "path",
    [
        ("question", "answers", 0),
        ("rules",),
        ("turns", 0, "text"),
        ("turns", 1, "observation", 0, 0),
        ("turns", 0, "action", 1),
        ("turns", 0, "hits", 0, 0),
        ("turns", 0, "hits", 0, 2),
        ("digest",),
    ],
)
def test_changed_content_is_refused(path):
    with pytest.raises(SnapshotError, match="changed"):
        EpisodeState.from_json(_changed(episode(2).to_json(), *path, value="7"))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


def paths(data, here=()):
    """Where in a JSON value something can be put in place of something else."""
    yield here
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from paths(value, (*here, key))


@pytest.mark.fault("R6: a snapshot whose action, hits or types were changed")
def test_whatever_is_changed_is_a_snapshot_error_or_changes_nothing():
    good = json.loads(json.dumps(episode(2).close("length_limit", -1.0).to_json()))
    everywhere = list(paths(good))[1:]

    @settings(max_examples=400)
    @given(st.sampled_from(everywhere), JUNK)
    def holds(path, value):
        try:
            state = EpisodeState.from_json(_changed(good, *path, value=value))
        except SnapshotError:
            return
        assert json.loads(json.dumps(state.to_json())) == good  # 1.0 in place of 1, for one

    holds()


@pytest.mark.fault("R6: a snapshot whose action, hits or types were changed")
def test_types_are_checked_even_where_the_digest_fits():
    good = json.loads(json.dumps(episode(2).close("length_limit", -1.0).to_json()))
    optional = (str, type(None))
    # Metadata may be any JSON.
    for path in [path for path in paths(good) if path and not {"digest", "format", "metadata"} & {*path}]:
        for value in (None, True, 7, -0.5, float("nan"), float("inf"), "x", [], {}):
            made = _changed(good, *path, value=value)
            with pytest.raises(SnapshotError) as caught:
                EpisodeState.from_json(made | {"digest": "another"})
            if not (fits := re.search("content has digest ([0-9a-f]{64})", str(caught.value))):
                continue
            state = EpisodeState.from_json(made | {"digest": fits[1]}).to_json()
            json.dumps(state, allow_nan=False)
            if path in [("closed",), ("turns",), ("question",)]:  # left out as a whole, or without any
                continue
            old, new = part_at(good, path), part_at(state, path)
            assert type(new) is type(old) or (isinstance(old, optional) and isinstance(new, optional)), (path, value)
            if path[-1] in ("ended", "reason") or path[-2:] == ("action", 0):
                assert new != "x"


@pytest.mark.parametrize("data", [{}, [], None, {"format": "at2po-episode/1"}, {"format": "at2po-episode/3"}, "x"])
def test_other_json_is_refused(data):
    with pytest.raises(SnapshotError, match="snapshot"):
        EpisodeState.from_json(data)
    with pytest.raises(SnapshotError, match="snapshot"):
        EpisodeState.from_json(_changed(episode(2).to_json(), "turns", 0, value=data))


def test_metadata_that_is_not_json_names_the_question():
    with pytest.raises(TypeError, match=r"question 'q9'.*metadata"):
        EpisodeState.begin(Question("q9", "?", ("a",), (), {"x": object()}), "rules")
