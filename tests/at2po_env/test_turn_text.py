from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_env.turn_text import without_thoughts

PIECES = ["<think>", "</think>", "a", "bc", "<", "think>", "<search>"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_every_character_outside_thoughts_is_found_in_the_turn_again(turn):
    spoken = without_thoughts(turn, "think")
    places = [spoken.place(i) for i in range(len(spoken.text))]
    assert "".join(turn[place] for place in places) == spoken.text
    assert places == sorted(set(places))


def test_thoughts_go_and_what_is_left_is_joined():
    spoken = without_thoughts("ab<think>x</think>cd<think>y</think>e<think>z", "think")
    assert (spoken.text, spoken.first_thought) == ("abcde", 2)
    assert [spoken.place(i) for i in range(5)] == [0, 1, 18, 19, 36]
    assert without_thoughts("a<think>b", "think").first_thought is None


@pytest.mark.fault("C: a thought that the chat template opened")
@given(st.lists(st.sampled_from([*PIECES, "</search>", "<answer>x</answer>"]), max_size=8).map("".join))
def test_a_turn_that_begins_inside_a_thought_reads_as_with_its_opening_tag(turn):
    closed, opened = f"I quote <search>x</search> here.</think>{turn}", "<think>"
    spoken, whole = without_thoughts(closed, "think"), without_thoughts(opened + closed, "think")
    assert (spoken.text, spoken.first_thought) == (whole.text, whole.first_thought) and spoken.first_thought == 0
    places = range(len(spoken.text))
    assert [spoken.place(i) + len(opened) for i in places] == [whole.place(i) for i in places]
