"""The sorted prefixes against a search over everything that was stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.policy.prefixes import Prefixes, common_prefix

SEQUENCES = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)


@given(st.lists(SEQUENCES, max_size=15), SEQUENCES)
def test_match_is_the_longest_common_prefix_of_all_that_was_stored(
    stored: list[tuple[int, ...]], wanted: tuple[int, ...]
) -> None:
    prefixes = Prefixes()
    for ids in stored:
        if prefixes.match(ids)[0] < len(ids):
            prefixes.insert(ids)
    length, found = prefixes.match(wanted)
    assert length == max((common_prefix(ids, wanted) for ids in stored), default=0)
    assert found[:length] == wanted[:length]


@given(st.lists(SEQUENCES, max_size=15))
def test_extend_is_match_and_then_insert(stored: list[tuple[int, ...]]) -> None:
    one, other = Prefixes(), Prefixes()
    for ids in stored:
        length = other.match(ids)[0]
        if length < len(ids):
            other.insert(ids)
        assert one.extend(ids) == length
        assert all(one.match(wanted) == other.match(wanted) for wanted in stored)


def test_a_longer_sequence_takes_the_place_of_what_it_continues() -> None:
    prefixes = Prefixes()
    assert prefixes.insert((1, 2)) is None
    assert prefixes.insert((1, 2, 3)) == (1, 2)
    assert (1, 2, 3) in prefixes and (1, 2) not in prefixes
    prefixes.remove((1, 2, 3))
    assert prefixes.match((1, 2)) == (0, ())
