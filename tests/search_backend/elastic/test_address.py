from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

import search_backend
from search_backend import SearchError
from search_backend.elastic.address import parse_address


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("elasticsearch://host/wiki", "http://host:9200"),
        ("elasticsearch://host:1234/some/prefix/wiki", "http://host:1234/some/prefix"),
        ("elasticsearch://[::1]:9/wiki?tls=true", "https://[::1]:9"),
    ],
)
def test_the_address_in_a_uri(uri, url):
    address = parse_address(uri)
    assert (address.url, address.index) == (url, "wiki")


def test_a_cloud_id_names_the_host():
    packed = base64.b64encode(b"eu.example.com:9243$abc$def").decode()
    address = parse_address(f"elasticsearch:///wiki?cloud_id=deployment:{packed}&timeout=3&retries=1")
    assert (address.url, address.timeout, address.retries) == ("https://abc.eu.example.com:9243", 3.0, 1)
    with pytest.raises(SearchError, match="cloud_id"):
        parse_address("elasticsearch:///wiki?cloud_id=nonsense")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("elasticsearch://host", "no index name"),
        ("elasticsearch://host/Wiki*", "no index name"),
        ("elasticsearch:///wiki", "names no host"),
        ("elasticsearch://host:x/wiki", "cannot be read, look at its host and port"),
        ("elasticsearch://host/wiki?speed=1", "unknown option 'speed'"),
        ("elasticsearch://host/wiki?timeout=0", "timeout must be"),
        ("elasticsearch://host/wiki?retries=many", "retries must be"),
        ("elasticsearch://host/wiki?tls=maybe", "tls is true or false"),
        ("elasticsearch://host/wiki?ca=/nowhere/ca.pem", "no file /nowhere/ca.pem"),
    ],
)
def test_a_wrong_uri_is_one_clear_error(uri, message):
    with pytest.raises(SearchError, match=message):
        parse_address(uri)


def test_secrets_come_from_the_environment_and_are_shown_nowhere(monkeypatch):
    with pytest.raises(SearchError, match="no user and password in a URI") as caught:
        parse_address("elasticsearch://me:hunter2@host/wiki")
    assert "hunter2" not in str(caught.value)
    address = parse_address("elasticsearch://host/wiki?user=me&password_env=MY_PASSWORD")
    with pytest.raises(SearchError, match="MY_PASSWORD"):
        address.client_options()
    monkeypatch.setenv("MY_PASSWORD", "hunter2")
    assert address.client_options()["basic_auth"] == ("me", "hunter2")
    monkeypatch.setenv("AT2PO_ES_API_KEY", "hunter3")
    assert address.client_options()["api_key"] == "hunter3"
    assert "hunter" not in f"{address} {address!r}"


@pytest.mark.fault("item 28: keys in fragments and malformed URIs")
@pytest.mark.parametrize("scheme", ["elasticsearch", "http", "https", "tape"])
@pytest.mark.parametrize(
    "rest",
    ["//u:KEY@h/wiki", "//KEY@h/wiki", "//u:KEY/wiki", "//[KEY/wiki", "//h/wiki#KEY", "//h/wiki?KEY", "//h/wiki?KEY=1"],
)
def test_a_uri_that_may_hold_a_key_is_refused_without_repeating_it(scheme, rest):
    key = "sk-0123456789-very-secret"
    uri = f"{scheme}:{rest.replace('KEY', key)}"
    if scheme == "tape":
        uri = f"tape:file?over={quote('elasticsearch:' + rest.replace('KEY', key), safe='')}&mode=record"
    with pytest.raises(SearchError) as caught:
        search_backend.open(uri)
    assert key not in str(caught.value)
