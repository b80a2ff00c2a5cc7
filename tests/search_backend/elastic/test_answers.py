"""Answers that a server, a fork of it or a proxy may give: a whole one is read, and no other is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from search_backend import BadAnswer, Passage, SearchError, SearchUnavailable
from search_backend.elastic.answers import read_hits
from tests.helpers.elastic_double import served, whole_answer
from tests.helpers.hostile_json import with_one_part_replaced


def changed(field, value):
    """An answer in whose second hit one field is another."""
    item = whole_answer()
    item["hits"]["hits"][1][field] = value
    return item


FAULT = pytest.mark.fault("item 26, R5: answers of Elasticsearch that are partial or of another shape")


def test_a_whole_answer_is_read():
    hits = read_hits(whole_answer(), 3, "wiki")
    assert [(hit.passage, hit.score, hit.place) for hit in hits] == [
        (Passage(f"p{i}", f"T{i}", f"text {i}"), 3.0 - i, i + 1) for i in range(3)
    ]


@FAULT
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda item: item.update(timed_out=True), "timed_out"),
        (lambda item: item.update(terminated_early=True), "terminated_early"),
        (lambda item: item["_shards"].update(failed=1, total=2), "1 of 2 shards failed"),
    ],
)
def test_a_partial_answer_is_unavailable_and_asked_for_again(elastic_double, change, why):
    items = [whole_answer() for _ in range(2)]
    change(items[0])
    elastic_double.item = iter(items).__next__
    backend = elastic_double.backend()
    assert len(backend.search(["Tivaro"], 3)[0]) == 3  # the second answer is whole
    elastic_double.item = lambda: items[0]
    with pytest.raises(SearchUnavailable, match=why):
        backend.search(["Tivaro"], 3)
    assert elastic_double.requests == 4
    backend.close()


@FAULT
@pytest.mark.parametrize(
    "change",
    [
        lambda item: item["hits"]["hits"][1].update(_score=None),
        lambda item: item["hits"]["hits"][1].update(_score=float("nan")),
        lambda item: item["hits"]["hits"][1].pop("_source"),
        lambda item: item["hits"]["hits"][1]["_source"].update(text=None),
        lambda item: item["hits"]["hits"][1]["_source"].pop("title"),
        lambda item: item["hits"]["hits"][1].pop("sort"),
        lambda item: item["hits"].pop("hits"),
        lambda item: item.pop("timed_out"),
        lambda item: item.pop("_shards"),
        lambda item: item["hits"]["hits"].extend(whole_answer()["hits"]["hits"]),
    ],
)
def test_hits_of_another_shape_are_a_bad_answer(elastic_double, change):
    item = whole_answer()
    change(item)
    elastic_double.item = lambda: item
    backend = elastic_double.backend()
    with pytest.raises(BadAnswer, match="not an answer of Elasticsearch"):
        backend.search(["Tivaro"], 3)
    assert elastic_double.requests == 2
    backend.close()


@FAULT
@example(changed("_source", {"id": "p", "title": "\ud800", "text": "t"}))
@example(changed("sort", [1, "2"]))
@example(changed("sort", [1, -2]))
@example(changed("_score", float("inf")))
@given(with_one_part_replaced(whole_answer()))
def test_any_part_may_be_anything(item):
    try:
        hits = read_hits(item, 3, "wiki")
    except SearchError:
        return
    assert len(hits) <= 3
    for hit in hits:
        assert hit.score == hit.score and abs(hit.score) != float("inf")
        assert type(hit.place) is int and hit.place >= 0
        f"{hit.passage.id}{hit.passage.title}{hit.passage.text}".encode()


@FAULT
@settings(max_examples=40)
@given(body=st.one_of(st.binary(max_size=40), st.sampled_from([b"[]", b"7", b"null", b'{"responses": 7}', b'"x"'])))
def test_any_body_is_an_error_of_ours(body):
    with served() as double:
        double.body, double.uri = body, double.uri.replace("retries=1", "retries=0")
        backend = double.backend()
        with pytest.raises(SearchError):
            backend.search(["Tivaro"], 3)
        backend.close()
