"""The prefix cache against a search over everything that was stored."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.policy.local.prefix_cache import PrefixCache
from at2po_agent.policy.prefixes import common_prefix

SEQUENCES = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)


def states(ids: tuple[int, ...]) -> torch.Tensor:
    """One float per token that depends on the token and all before it, as keys and values do."""
    return torch.tensor([float(hash(ids[: i + 1]) % 2**20) for i in range(len(ids))])


@given(st.lists(SEQUENCES, max_size=12), SEQUENCES)
def test_match_is_the_longest_common_prefix_of_all_that_is_stored(
    stored: list[tuple[int, ...]], prompt: tuple[int, ...]
) -> None:
    cache = PrefixCache(2**20)
    for ids in stored:
        cache.insert(ids, states(ids))
    length, found = cache.match(prompt)
    assert length == max((common_prefix(ids, prompt) for ids in stored), default=0)
    if length:
        assert found is not None
        assert torch.equal(found[:length], states(prompt)[:length])


@given(st.lists(SEQUENCES, max_size=30))
def test_size_is_bounded_and_the_newest_stays(stored: list[tuple[int, ...]]) -> None:
    cache = PrefixCache(4 * 16)
    for ids in stored:
        cache.insert(ids, states(ids))
        assert cache.bytes <= 4 * 16
        assert cache.match(ids)[0] == len(ids)


def test_least_recently_used_goes_first() -> None:
    cache = PrefixCache(4 * 4)
    cache.insert((1, 1), states((1, 1)))
    cache.insert((2, 2), states((2, 2)))
    cache.match((1, 1))
    cache.insert((3, 3), states((3, 3)))
    assert [cache.match((i, i))[0] for i in (1, 2, 3)] == [2, 0, 2]


def test_longer_sequence_replaces_its_own_prefix() -> None:
    cache = PrefixCache(2**20)
    cache.insert((1, 2), states((1, 2)))
    cache.insert((1, 2, 3), states((1, 2, 3)))
    assert cache.bytes == 4 * 3


def test_what_never_fits_is_not_stored_and_clear_forgets() -> None:
    cache = PrefixCache(8)
    cache.insert((1, 2), states((1, 2)))
    cache.insert((5, 6, 7), states((5, 6, 7)))
    assert (cache.match((5, 6))[0], cache.match((1, 2))[0]) == (0, 2)
    cache.clear()
    assert (cache.match((1, 2)), cache.bytes) == ((0, None), 0)
