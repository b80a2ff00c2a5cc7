from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_backend import Hit, Passage
from search_backend.outside import Unusable
from search_backend.search_r1 import read_hits, read_results

NULLS = pytest.mark.fault("P: null text of a retriever, which became the word None")
ORDERS = pytest.mark.fault("O: a search service without scores, or with distances")


def read(*documents):
    (entries,) = read_results(json.dumps({"result": [documents]}).encode(), 1)
    return read_hits(entries)


@NULLS
@pytest.mark.parametrize("null", ["text", "contents", "title"])
def test_of_a_field_that_is_null_the_other_one_counts(null):
    document = {"id": "1", "title": "T", "text": "real", "contents": '"T"\nreal'} | {null: None}
    assert read({"document": document, "score": 1}) == [Hit(Passage("1", "T", "real"), 1.0)]


@NULLS
@pytest.mark.parametrize(
    "document", [{"contents": None}, {"text": None, "title": "T"}, {"text": " \n"}, {"contents": '"T"\n'}, {}, None, []]
)
def test_a_hit_without_text_is_refused(document):
    with pytest.raises(Unusable, match=r"a hit without text|no document"):
        read({"document": document, "score": 1})


def test_a_document_may_stand_alone_without_id_and_title():
    (hit,) = read({"contents": "A line."})
    assert (hit.passage.title, hit.passage.text) == ("", "A line.")
    assert hit.passage.id == read({"id": None, "contents": "A line."})[0].passage.id
    assert read({"_id": 7, "contents": "Name\nA line."}) == [Hit(Passage("7", "Name", "A line."), 1.0)]


@ORDERS
@pytest.mark.parametrize("without", [{}, {"score": None}])
def test_without_scores_the_order_is_the_one_given(without):
    documents = [{"document": {"contents": f'"{title}"\ntext'}, **without} for title in "TUA"]
    hits = read(*documents)
    assert [(hit.passage.title, hit.score) for hit in hits] == [("T", 1), ("U", 1 / 2), ("A", 1 / 3)]


def scored(scores):
    return [{"document": {"id": f"{i}", "text": "a"}, "score": score} for i, score in enumerate(scores)]


@ORDERS
@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=6, unique=True))
def test_a_ranking_by_distance_and_one_by_similarity_keep_their_order(scores):
    for ranked in (sorted(scores), sorted(scores, reverse=True)):
        hits = read(*scored(ranked))
        assert [hit.passage.id for hit in hits] == [f"{i}" for i in range(len(ranked))]
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_equal_scores_go_by_id_and_what_has_no_order_is_ordered():
    assert [hit.passage.id for hit in read(*scored([0.5, 0.9, 0.5, 0.1])[::-1])] == ["1", "0", "2", "3"]
    assert [hit.score for hit in read(*scored([0.1, 0.1, 0.4]))] == [-0.1, -0.1, -0.4]
    assert read() == []


@pytest.mark.fault("item 23: bad answers of a search service")
def test_half_a_surrogate_pair_in_a_text_is_the_replacement_character():
    (hit,) = read({"document": {"id": "1", "text": "a \ud800 b", "title": "\udfff"}, "score": 1})
    assert hit.passage == Passage("1", "\ufffd", "a \ufffd b")
