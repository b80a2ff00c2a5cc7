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
components   names that stand for code: built in, of installed packages, or your own
forks        locks and clients that stay usable in a forked process

To add a backend of your own: a class with the methods of ``SearchBackend``, and a function that opens it from a URI:
``open("my_module:my_function?…")`` calls it, as does ``open("name:…")`` after ``register_scheme("name", opener)`` or
where an installed package has an entry point ``search.name`` (``search_backend.components``).
``tests/helpers/search_contract.py`` has the tests that every backend passes.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

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
from search_backend.components import ComponentError, Kind, Origin
from search_backend.corpus import read_passages
from search_backend.tape import Tape, tape_uri

if TYPE_CHECKING:
    from search_backend.embedded.backend import EmbeddedIndex as EmbeddedIndex
    from search_backend.embedded.cache import build_or_open as build_or_open
    from search_backend.embedded.cache import cache_dir as cache_dir

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
    "origin",
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
_OWN = re.compile(r"([A-Za-z_][\w.]+:[A-Za-z_]\w*)(?:\?.*)?", re.DOTALL)
_SEARCH = Kind("search", SearchBackend, _OPENERS)


# Loaded on their first use, as they load the engine of the embedded index.
_EMBEDDED = {"EmbeddedIndex": "backend", "build_or_open": "cache", "cache_dir": "cache"}


def __getattr__(name: str) -> Any:
    if name not in _EMBEDDED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"search_backend.embedded.{_EMBEDDED[name]}"), name)


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
    ``MODULE:FUNCTION`` or ``MODULE:FUNCTION?…`` is a backend of your own: what the function returns for the whole URI.

    Raises:
        SearchError: The scheme is unknown or the URI is malformed, or what it names of your own is no search backend.
        CorpusError: What it names on disk cannot be used.
        SearchUnavailable: The service it names cannot be reached.
    """
    name = _opener_name(uri)
    try:
        opener = cast(Opener, _SEARCH.find(name, "search"))
        backend = opener(uri)
        if name not in _OPENERS:
            _SEARCH.check(backend, f"search: what {name} returned")
    except ComponentError as error:
        raise SearchError(f"{error} ({_known()})") from error
    return backend


def origin(uri: str) -> Origin | None:
    """The origin of a URI's backend, also under a tape; None where it is built in."""
    name = _opener_name(uri)
    if name == "tape":
        over = dict(parse_qsl(uri.partition("?")[2])).get("over")
        return origin(over) if over else None
    return _SEARCH.origin(name)


def _opener_name(uri: str) -> str:
    """The scheme of a URI, or the ``module:function`` that opens it."""
    scheme = _SCHEME.match(uri)
    name = scheme[1].lower() if scheme else None
    if name and (name in _OPENERS or name in _SEARCH.names()):
        return name
    if own := _OWN.fullmatch(uri):
        return own[1]
    if scheme is None:
        raise SearchError(f"{uri!r} is not a search URI; for an index on disk write embedded:{uri} ({_known()})")
    raise SearchError(f"unknown search scheme {scheme[1]!r}; {_known()}")


def _known() -> str:
    return f"known: {', '.join(f'{name}:' for name in sorted(_SEARCH.names()))}, or module:function of your own"
