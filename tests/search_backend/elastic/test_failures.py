from __future__ import annotations

import pytest

import search_backend
from search_backend import CorpusError, SearchError, SearchTimeout, SearchUnavailable
from search_backend.elastic.address import parse_address
from search_backend.elastic.failures import item_failure, status_failure


@pytest.mark.parametrize(
    ("status", "kind", "again"),
    [
        (400, SearchError, False),
        (401, SearchError, False),
        (404, CorpusError, False),
        (408, SearchUnavailable, True),
        (429, SearchUnavailable, True),
        (501, SearchError, False),
        (503, SearchUnavailable, True),
        (504, SearchTimeout, True),
    ],
)
def test_a_status_has_an_error_and_says_whether_to_try_again(status, kind, again):
    address = parse_address("elasticsearch://host/wiki")
    found = status_failure(status, "the reason", address)
    assert (type(found.error), found.again) == (kind, again)
    assert f"http://host:9200/wiki: HTTP {status}: the reason" in str(found.error)
    item = {"status": status, "error": {"type": "busy", "root_cause": [{"reason": "the reason"}]}}
    assert str(item_failure(item, address).error) == str(found.error)


@pytest.mark.fault("R: a server of Elasticsearch 8")
def test_an_older_server_is_named_with_the_version_that_is_needed(elastic_double):
    reason = "Accept version must be either version 8 or 7, but found 9. Accept=application/vnd.elasticsearch+json"
    error = {
        "type": "media_type_header_exception",
        "reason": "Invalid media-type value on headers [Accept]",
        "caused_by": {"type": "status_exception", "reason": reason},
    }
    elastic_double.refuse = (400, {"error": error | {"root_cause": [error]}, "status": 400})
    with pytest.raises(SearchError, match=r"Accept version must be either version 8 or 7.*needs a server of version 9"):
        search_backend.open(elastic_double.uri)


@pytest.mark.parametrize("error", [None, "busy", 7, [], {"root_cause": 3}, {"root_cause": [1]}, {"caused_by": []}])
def test_an_error_of_any_shape_has_an_error_of_ours(error):
    address = parse_address("elasticsearch://host/wiki")
    for status in (None, "x", 503, [], 10**400):
        assert isinstance(item_failure({"status": status, "error": error}, address).error, SearchError)
