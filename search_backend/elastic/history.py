"""The history of loads under a name: every load makes an index of its own, and the alias moves on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from elasticsearch import Elasticsearch

from search_backend.base import BadAnswer, CorpusError
from search_backend.elastic import layout
from search_backend.elastic.address import Address, parse_address
from search_backend.elastic.failures import attempt, part, wait_until_ready
from search_backend.outside import shown

State = Literal["current", "superseded", "unfinished"]


@dataclass(frozen=True)
class Loaded:
    """An index of ours: ``current`` has an alias, ``superseded`` had one, ``unfinished`` goes on when loaded again."""

    name: str
    passages: int
    state: State


def loaded(uri: str) -> list[Loaded]:
    """The loads under the name in the URI, by index name. Indexes that are not ours are left out.

    Raises:
        SearchUnavailable: The server did not get ready.
        SearchError: It refuses us.
    """
    address = parse_address(uri)
    with Elasticsearch(**address.client_options()) as client:
        wait_until_ready(client, address)
        return _loaded(client, address)


def remove_superseded(uri: str) -> list[Loaded]:
    """Delete what the alias no longer stands for, and return it.

    The index that the alias (or any other alias) stands for stays, and so does what is unfinished: its load may be
    under way. A run that was started on a superseded index still searches it by its own name, and fails without it.

    Raises:
        SearchUnavailable: The server did not get ready.
        SearchError: It refuses us.
    """
    address = parse_address(uri)
    removed = []
    with Elasticsearch(**address.client_options()) as client:
        wait_until_ready(client, address)
        for one in _loaded(client, address):
            if one.state == "superseded" and _remove(client, address, one.name):
                removed.append(one)
    return removed


def _remove(client: Elasticsearch, address: Address, name: str) -> bool:
    """Delete an index, unless a load has moved an alias back to it since it was looked at."""
    if part(address, attempt(address, lambda: client.indices.get_alias(index=name)), name, "aliases"):
        return False
    attempt(address, lambda: client.indices.delete(index=name))
    return True


def _loaded(client: Elasticsearch, address: Address) -> list[Loaded]:
    found = attempt(address, lambda: client.indices.get(index=f"{address.index}-*", expand_wildcards="all")).body
    if not isinstance(found, dict):
        raise BadAnswer(f"{address}: not an answer of Elasticsearch to what its indexes are: {shown(found)}")
    made = []
    for name, description in sorted(found.items()):
        if not re.fullmatch(re.escape(address.index) + "-[0-9a-f]{16}", name):
            continue  # of another name that begins alike
        try:
            index = layout.read(name, description, address)
        except CorpusError:
            continue  # not ours, or of a version whose indexes this one does not know
        state: State = "current" if part(address, description, "aliases") else "superseded"
        made.append(Loaded(name, index.manifest.passages, state if index.complete else "unfinished"))
    return made
