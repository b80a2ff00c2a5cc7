"""Old loads of a name are listed, and removed without ever touching what is in use."""

from concurrent.futures import ThreadPoolExecutor

import pytest

import search_backend
from at2po_agent.commands import main as cli
from search_backend.elastic.history import Loaded, loaded, remove_superseded
from search_backend.elastic.load import load_index
from tests.helpers.search_contract import PASSAGES, ids

pytestmark = pytest.mark.service


def load(uri: str, count: int) -> str:
    backend = load_index(uri, PASSAGES[:count])
    backend.close()
    return backend.index


def test_superseded_loads_are_removed_and_nothing_else(elasticsearch_host, name, client, capsys):
    uri = f"elasticsearch://{elasticsearch_host}/{name}"
    old, kept, current = load(uri, 2), load(uri, 3), load(uri, 4)
    client.indices.put_alias(index=kept, name=f"{name}-for-others")
    unfinished = load(uri, 5)
    made = client.indices.get(index=unfinished)[unfinished]["mappings"]["_meta"]
    made["at2po"]["complete"] = False
    client.indices.put_mapping(index=unfinished, meta=made)
    client.indices.update_aliases(
        actions=[{"remove": {"index": unfinished, "alias": name}}, {"add": {"index": current, "alias": name}}]
    )
    other = load(f"{uri}-0123456789abcdef", 2)  # a name of its own that begins alike
    stranger = f"{name}-{'0' * 16}"
    client.indices.create(index=stranger)
    states = {one.name: one.state for one in loaded(uri)}
    assert states == {old: "superseded", kept: "current", current: "current", unfinished: "unfinished"}

    assert cli.main(["index", "loads", uri]) == 0
    assert f"superseded  {old}  2 passages" in capsys.readouterr().out
    assert client.indices.exists(index=old)  # listing removes nothing
    assert cli.main(["index", "loads", uri, "--remove-superseded"]) == 0
    shown = capsys.readouterr().out
    assert f"removed     {old}  2 passages" in shown and f"current     {current}  4 passages" in shown
    assert not client.indices.exists(index=old)
    for index in (kept, current, unfinished, other, stranger):
        assert client.indices.exists(index=index)
    backend = search_backend.open(uri)
    assert backend.index == current and ids(backend.search([PASSAGES[0].title], 1)[0])
    backend.close()
    assert remove_superseded(uri) == []


def test_an_alias_that_came_back_meanwhile_keeps_its_index(uri, elasticsearch_host, slow_proxy):
    first, second = load(uri, 2), load(uri, 3)
    proxy = slow_proxy(elasticsearch_host)
    proxy.holds = lambda answer: b"_meta" in answer  # the description of the indexes, on which it decides
    with ThreadPoolExecutor(1) as thread:
        removing = thread.submit(remove_superseded, uri.replace(elasticsearch_host, f"127.0.0.1:{proxy.port}"))
        try:
            assert proxy.holding.wait(10)
            assert load(uri, 2) == first  # the same passages again: the alias moves back
        finally:
            proxy.go_on.set()
        assert removing.result() == []
    assert set(loaded(uri)) == {Loaded(first, 2, "current"), Loaded(second, 3, "superseded")}


def test_only_a_server_has_loads(capsys):
    assert cli.main(["index", "loads", "embedded:somewhere"]) == 2
    assert "loads are listed at elasticsearch://" in capsys.readouterr().err
