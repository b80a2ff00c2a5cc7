from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_backend import CorpusError
from search_backend.analysis import ANALYZERS, Analyzer, check_options, query_terms


def test_terms_are_lower_case_runs_of_letters_and_digits_of_bounded_length():
    assert Analyzer("standard").terms("Foo_bar's 2nd—Ünïcode <b>") == ["foo", "bar", "s", "2nd", "ünïcode", "b"]
    assert Analyzer("standard").terms(f"{'x' * 255} {'y' * 256}") == ["x" * 255]
    assert Analyzer("english").terms("Paintings painted") == ["paint", "paint"]
    with pytest.raises(CorpusError, match="standard, english, multilingual"):
        Analyzer("other")


def test_the_terms_of_a_query_are_distinct_and_in_order():
    assert query_terms(Analyzer("standard"), "The river, the town: THE \ud800 end?") == [
        "the",
        "river",
        "town",
        "end",
    ]
    assert query_terms(Analyzer("english"), "Running runs") == ["run"]
    assert query_terms(Analyzer("standard"), "?!") == []


FAULT = pytest.mark.fault("S: words of scripts without spaces, and accents")


@FAULT
@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("北京是中华人民共和国的首都。", "首都"),
        ("東京タワーは東京都港区にある。", "港区"),
        ("서울은 대한민국의 수도이다.", "서울"),
        ("กรุงเทพมหานครเป็นเมืองหลวง", "เมืองหลวง"),
        ("ရန်ကုန်မြို့သည်", "မြို့"),
        ("ភ្នំពេញជារាជធានី", "រាជធានី"),
        ("Das iPhone手机", "手"),
        ("Beyoncé", "Beyonce"),
        ("Beyonce", "Beyonce\u0301"),
        ("Kurt Gödel", "Godel"),
        ("Straße nach Ørsted, Łódź, İstanbul", "strasse orsted lodz istanbul"),
        ("Αθήνα", "ΑΘΗΝΑ"),
        ("Королёв", "Королев"),
        ("ＡＢＣ １２", "abc 12"),
        ("ｶﾅ", "カナ"),
        ("हिन्दी", "हिन्दी"),
    ],
)
def test_the_words_of_a_query_are_among_the_terms_of_a_passage(text, query):
    analyzer = Analyzer("multilingual")
    assert analyzer.terms(query)
    assert set(analyzer.terms(query)) <= set(analyzer.terms(text))
    assert all(term.isalnum() for term in analyzer.terms(text) if term.isascii())


def test_of_a_script_without_spaces_every_letter_and_every_two_neighbours_are_a_term():
    assert Analyzer("multilingual").terms("In 北京是 here") == ["in", "北", "北京", "京", "京是", "是", "here"]
    assert Analyzer("multilingual").terms("\u0e31 \u0e49") == []


@FAULT
@given(st.text(st.characters(max_codepoint=127)))
def test_text_in_ascii_has_the_terms_of_standard(text):
    assert Analyzer("multilingual").terms(text) == Analyzer("standard").terms(text)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_terms_have_a_bound_and_no_space_so_that_a_server_can_split_them_there(text):
    for name in ANALYZERS:
        for term in Analyzer(name).terms(text):
            assert 0 < len(term) <= 255 and not any(map(str.isspace, term))


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
