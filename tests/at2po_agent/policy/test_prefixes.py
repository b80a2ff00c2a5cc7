"""The sorted prefixes against a search over everything that was stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.policy.prefixes import Prefixes, common_prefix

SEQUENCES = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)


@given(st.lists(st.tuples(SEQUENCES, st.booleans()), max_size=15), SEQUENCES)
def test_match_is_the_longest_common_prefix_of_all_that_was_stored(
    stored: list[tuple[tuple[int, ...], bool]], wanted: tuple[int, ...]
) -> None:
    prefixes = Prefixes()
    for ids, add in stored:
        if add:
            prefixes.add(ids)
        elif ids not in prefixes:
            prefixes.insert(ids)
    length, found = prefixes.match(wanted)
    assert length == max((common_prefix(ids, wanted) for ids, _ in stored), default=0)
    assert found[:length] == wanted[:length]


@given(st.lists(SEQUENCES, max_size=15))
def test_what_is_added_is_kept_where_no_other_begins_with_it(stored: list[tuple[int, ...]]) -> None:
    prefixes = Prefixes()
    for ids in stored:
        prefixes.add(ids)
    for ids in stored:
        begins_another = any(other != ids and other[: len(ids)] == ids for other in stored)
        assert (ids in prefixes) == (not begins_another)


def test_a_longer_sequence_takes_the_place_of_what_it_continues() -> None:
    prefixes = Prefixes()
    assert prefixes.insert((1, 2)) is None
    assert prefixes.insert((1, 2, 3)) == (1, 2)
    assert (1, 2, 3) in prefixes and (1, 2) not in prefixes
    prefixes.remove((1, 2, 3))
    assert prefixes.match((1, 2)) == (0, ())
