from __future__ import annotations

import pytest

from search_backend import CorpusError
from search_backend.analysis import check_options, make_analyzer, query_terms


def test_terms_are_lower_case_runs_of_letters_and_digits_of_bounded_length():
    assert make_analyzer("standard").analyze("Foo_bar's 2nd—Ünïcode <b>") == ["foo", "bar", "s", "2nd", "ünïcode", "b"]
    assert make_analyzer("standard").analyze(f"{'x' * 255} {'y' * 256}") == ["x" * 255]
    assert make_analyzer("english").analyze("Paintings painted") == ["paint", "paint"]
    with pytest.raises(CorpusError, match="standard, english"):
        make_analyzer("other")


def test_the_terms_of_a_query_are_distinct_and_in_order():
    assert query_terms(make_analyzer("standard"), "The river, the town: THE \ud800 end?") == [
        "the",
        "river",
        "town",
        "end",
    ]
    assert query_terms(make_analyzer("english"), "Running runs") == ["run"]
    assert query_terms(make_analyzer("standard"), "?!") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("latin", 3, 64), "unknown analyzer 'latin'"),
        (("standard", 0, 64), "title_boost must be an integer from 1 to 100, not 0"),
        (("standard", True, 64), "title_boost must be"),
        (("english", 3, 31), "memory_mb must be at least 32, not 31"),
    ],
)
def test_options_that_no_index_can_be_built_with_are_named(options, message):
    check_options("english", 100, 32)
    with pytest.raises(CorpusError, match=message):
        check_options(*options)
