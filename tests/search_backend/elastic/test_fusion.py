"""Reciprocal rank fusion by hand, and what a URI may say about it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_backend import SearchError
from search_backend.elastic.address import parse_address
from search_backend.elastic.fusion import Hybrid, fuse


def test_fusion_of_two_rankings_by_hand():
    words, vectors = [7, 3, 9], [3, 5]
    # 3 is second and first, 7 first and absent, 5 absent and second, 9 third and absent
    assert fuse([words, vectors], rrf=60) == [
        (3, pytest.approx(1 / 62 + 1 / 61)),
        (7, pytest.approx(1 / 61)),
        (5, pytest.approx(1 / 62)),
        (9, pytest.approx(1 / 63)),
    ]
    assert [passage for passage, _ in fuse([[8, 2], [2, 8]], rrf=60)] == [2, 8]  # a tie goes by passage id
    # a small constant trusts the first rank more: 1/1 beats twice 1/3
    assert [p for p, _ in fuse([[1, 4, 2], [5, 6, 2]], rrf=0)][:2] == [1, 5]
    assert fuse([[1, 4, 2], [5, 6, 2]], rrf=60)[0][0] == 2


@given(st.lists(st.integers(0, 50), unique=True, max_size=20), st.integers(0, 100))
def test_a_ranking_fused_with_itself_or_with_nothing_is_itself(ranking, rrf):
    for lists in ([ranking], [ranking, ranking], [ranking, []]):
        assert [passage for passage, _ in fuse(lists, rrf)] == ranking


def test_the_options_of_a_uri():
    assert parse_address("elasticsearch://host/wiki").hybrid is None
    assert parse_address("elasticsearch://host/wiki?hybrid=org/model").hybrid == Hybrid("org/model", 200, 60)
    asked = parse_address("elasticsearch://host/wiki?hybrid=%2Fmodels%2Fe5&candidates=500&rrf=10").hybrid
    assert asked == Hybrid("/models/e5", 500, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("rrf=10", "rrf needs hybrid=MODEL"),
        ("hybrid=", "hybrid needs hybrid=MODEL"),
        ("hybrid=m&candidates=50", "candidates must be a whole number from 100 to 10000"),
        ("hybrid=m&rrf=-1", "rrf must be a whole number"),
        ("hybrid=m&rrf=6e1", "rrf must be a whole number"),
    ],
)
def test_a_wrong_option_is_one_clear_error(options, message):
    with pytest.raises(SearchError, match=message):
        parse_address(f"elasticsearch://host/wiki?{options}")
