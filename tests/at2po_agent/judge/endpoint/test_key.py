import json

import pytest

from at2po_agent.judge.endpoint.key import Key
from at2po_agent.settings import ConfigError


def test_a_key_shows_itself_nowhere(monkeypatch):
    monkeypatch.setenv("A_KEY", "  sk-123456789\n")
    key = Key.of("A_KEY")
    assert key.value == "sk-123456789"
    assert "123" not in repr(key) + str(key)
    assert key.hide_in("with sk-123456789, yes") == "with [key], yes"
    assert key.hide_in_bytes(b'{"a": "sk-123456789"}') == b'{"a": "[key]"}'


def test_a_key_is_found_where_json_escapes_it(monkeypatch):
    monkeypatch.setenv("A_KEY", 'sk-12/34"5678')
    key = Key.of("A_KEY")
    assert key.hide_in(json.dumps({"error": 'no sk-12/34"5678'})) == '{"error": "no [key]"}'
    assert key.hide_in_bytes(b'{"a": "sk-12\\/34\\"5678"}') == b'{"a": "[key]"}'


def test_what_local_servers_are_given_is_no_secret(monkeypatch):
    monkeypatch.setenv("A_KEY", "none")
    assert Key.of("A_KEY").hide_in("none of them") == "none of them"
    assert Key.of(None).hide_in("text") == "text"


@pytest.mark.parametrize("value", [None, "", "  ", "schlüssel", "a\tb"])
def test_no_key_is_told_without_its_value(monkeypatch, value):
    monkeypatch.delenv("A_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("A_KEY", value)
    with pytest.raises(ConfigError, match="environment variable A_KEY") as caught:
        Key.of("A_KEY")
    assert not value or not value.strip() or value not in str(caught.value)


def test_a_name_that_could_be_the_key_is_not_repeated():
    with pytest.raises(ConfigError) as caught:
        Key.of("sk_0123456789abcdef")
    assert "0123" not in str(caught.value)
