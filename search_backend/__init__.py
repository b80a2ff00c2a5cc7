"""Find passages: one protocol, several backends, one ``open(uri)``.

base         ``SearchBackend``: what a backend answers, and the errors
corpus       reads passage files
embedded     a BM25 index on disk, searched in this process
elastic      an index on an Elasticsearch server
http         a Search-R1 style retrieval service
search_r1    reads what such a service answers
bounded      a bound on the size of an answer
tape         records what another backend answers, and replays it
analysis     the analyzer that both indexes share
retry        the pauses and the HTTP statuses of all retries, in search and above
outside      bounds and checks for what comes from outside: bodies, JSON, numbers, files
packed       files packed with zstd, unpacked within bounds
open_files   the message where the limit of open files is reached
background   an event loop on a thread of its own
forks        locks and clients that stay usable in a forked process

To add a backend of your own: a class with the methods of ``SearchBackend``, and ``register_scheme("name", opener)``.
``tests/helpers/search_contract.py`` has the tests that every backend passes.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import cast

from search_backend.base import (
    BadAnswer,
    BadQuery,
    CorpusError,
    Hit,
    Manifest,
    Passage,
    SearchBackend,
    SearchError,
    SearchTimeout,
    SearchUnavailable,
    TapeMiss,
)
from search_backend.corpus import read_passages
from search_backend.embedded.backend import EmbeddedIndex
from search_backend.embedded.cache import build_or_open, cache_dir
from search_backend.tape import Tape, tape_uri

__all__ = [
    "BadAnswer",
    "BadQuery",
    "CorpusError",
    "EmbeddedIndex",
    "Hit",
    "Manifest",
    "Passage",
    "SearchBackend",
    "SearchError",
    "SearchTimeout",
    "SearchUnavailable",
    "Tape",
    "TapeMiss",
    "build_or_open",
    "cache_dir",
    "open",
    "read_passages",
    "register_scheme",
    "tape_uri",
]

Opener = Callable[[str], SearchBackend]

# Names, not functions: a backend's client library is imported only when one of its URIs is opened.
_OPENERS: dict[str, str | Opener] = {
    "elasticsearch": "search_backend.elastic.backend:open_uri",
    "embedded": "search_backend.embedded.backend:open_uri",
    "http": "search_backend.http:open_uri",
    "https": "search_backend.http:open_uri",
    "tape": "search_backend.tape:open_uri",
}
# Two characters at least, so that a Windows drive is not taken for a scheme.
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)


def register_scheme(scheme: str, opener: str | Opener) -> None:
    """Make ``open("scheme:…")`` work.

    Args:
        scheme: Lower case, two characters or more, without the colon.
        opener: A function that is given the whole URI, or its address as ``"module:function"``, imported on first use.

    Raises:
        SearchError: The scheme is not a valid name or is taken.
    """
    if scheme != scheme.lower() or not _SCHEME.fullmatch(f"{scheme}:"):
        raise SearchError(f"{scheme!r} is not a URI scheme in lower case of two characters or more")
    if scheme in _OPENERS:
        raise SearchError(f"the search scheme {scheme!r} is already registered")
    _OPENERS[scheme] = opener


def open(uri: str) -> SearchBackend:
    """Open the search backend that a URI names.

    ``embedded:DIR`` is an index on disk (``EmbeddedIndex.build`` makes one); ``~`` is the home directory.
    ``elasticsearch://HOST[:PORT]/INDEX?…`` is an index on a server (``elastic.load.load_index`` fills one).
    ``http://HOST:PORT/retrieve`` is a Search-R1 style service.
    ``tape:FILE?over=URI&mode=record|replay|read-through`` records and replays another backend (``tape_uri`` writes it).

    Raises:
        SearchError: The scheme is unknown or the URI is malformed.
        CorpusError: What it names on disk cannot be used.
        SearchUnavailable: The service it names cannot be reached.
    """
    scheme = _SCHEME.match(uri)
    known = ", ".join(f"{name}:" for name in sorted(_OPENERS))
    if scheme is None:
        raise SearchError(f"{uri!r} is not a search URI; for an index on disk write embedded:{uri} (known: {known})")
    opener = _OPENERS.get(scheme[1].lower())
    if opener is None:
        raise SearchError(f"unknown search scheme {scheme[1]!r}; known: {known}")
    if isinstance(opener, str):
        module, function = opener.split(":")
        opener = cast(Opener, getattr(importlib.import_module(module), function))
    return opener(uri)
