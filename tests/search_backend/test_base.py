from __future__ import annotations

import inspect

import pytest

import search_backend
from search_backend import BadQuery, Manifest, SearchError, SearchUnavailable
from search_backend.base import check_request, was_closed
from search_backend.outside import Unusable


def test_every_public_error_is_a_search_error():
    public = (getattr(search_backend, name) for name in search_backend.__all__)
    errors = [one for one in public if inspect.isclass(one) and issubclass(one, BaseException)]
    assert len(errors) == 7
    assert all(issubclass(one, SearchError) for one in errors)


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (["a"], 0, "k must be an integer of at least 1, not 0"),
        (["a"], True, "not True"),
        (["a"], 2.0, "not 2.0"),
        ("a", 1, r"write \[query\]"),
        (["a", None], 1, "query 1 is of type NoneType"),
    ],
)
def test_a_wrong_request_is_one_clear_error(queries, k, message):
    check_request(["a", ""], 1)
    with pytest.raises(BadQuery, match=message):
        check_request(queries, k)


def test_a_digest_covers_every_field_and_not_the_order_of_parameters():
    manifest = Manifest("embedded", "c", 3, "standard", {"k1": 1.2, "b": 0.75})
    assert manifest.digest == Manifest("embedded", "c", 3, "standard", {"b": 0.75, "k1": 1.2}).digest
    changes = {"backend": "http", "corpus_digest": "d", "passages": 4, "analyzer": "english", "parameters": {"b": 0.75}}
    others = {Manifest(**{**manifest.to_json(), name: value}).digest for name, value in changes.items()}
    assert len(others | {manifest.digest}) == 6
    assert Manifest(**manifest.to_json()) == manifest


def test_a_closed_backend_is_named():
    error = was_closed("wiki")
    assert isinstance(error, SearchUnavailable) and str(error) == "the backend wiki was closed"


def test_a_manifest_is_read_as_it_was_written_and_checked():
    manifest = Manifest("embedded", "c", 3, "standard", {"k1": 1.2, "max_query_terms": 128})
    assert Manifest.from_json(manifest.to_json(), counts=("max_query_terms",)) == manifest
    with pytest.raises(Unusable, match="the parameter shards is no count but None"):
        Manifest.from_json(manifest.to_json(), counts=("shards",))
    with pytest.raises(Unusable, match="no manifest of a search backend: a list"):
        Manifest.from_json([])
    with pytest.raises(Unusable, match="a manifest that cannot be written"):
        Manifest.from_json(manifest.to_json() | {"parameters": {"k1": float("nan")}})
