"""The search seam: what a backend is given, what it returns, and how it fails.

Every error of this package is a ``SearchError``::

    SearchError                 unusable URI, refused request, unknown answer
    ├── SearchUnavailable       not reachable or not ready: trying again later may help
    │   ├── SearchTimeout       no answer in time
    │   └── BadAnswer           an answer of another shape, or too long
    ├── BadQuery                the request itself is wrong
    ├── CorpusError             a passage file, an index or a tape cannot be used
    └── TapeMiss                a replayed tape lacks the answer
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable
from urllib.parse import SplitResult, urlsplit

from search_backend.outside import Unusable, count, shown


class SearchError(Exception):
    """Base of every error that this package raises for its users."""


class SearchUnavailable(SearchError):
    """The backend cannot be reached or is not ready; trying again later may help."""


class SearchTimeout(SearchUnavailable):
    """The backend did not answer in time; trying again may help."""


class BadAnswer(SearchUnavailable):
    """The backend answered something that no such backend answers; trying again may help, and other queries may."""


class BadQuery(SearchError):
    """The request itself is wrong (``k < 1``, not a string); trying again will not help."""


class TapeMiss(SearchError):
    """A tape that is only replayed has no answer to the query; record it first."""


class CorpusError(SearchError):
    """A passage file, an index or a tape cannot be used; the message says which, where and why."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One retrievable unit of text. ``id`` is unique within its corpus."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a query found, with the backend's score (higher is better, unit of the backend)."""

    passage: Passage
    score: float


@dataclass(frozen=True)
class Manifest:
    """Everything that decides a backend's results: backends with equal digests answer every query alike."""

    backend: str
    corpus_digest: str
    passages: int
    analyzer: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 hex digest of the canonical JSON form."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        return {
            "backend": self.backend,
            "corpus_digest": self.corpus_digest,
            "passages": self.passages,
            "analyzer": self.analyzer,
            "parameters": dict(self.parameters),
        }

    @classmethod
    def from_json(cls, content: object, counts: Iterable[str] = ()) -> Manifest:
        """Read what ``to_json`` wrote.

        Args:
            content: A JSON value.
            counts: Parameters that have to be there, as whole numbers.

        Raises:
            Unusable: It is something else.
        """
        known: dict[str, Any] = content if isinstance(content, dict) else {}
        named = (known.get(name) for name in ("backend", "corpus_digest", "analyzer"))
        texts, parameters = [name for name in named if isinstance(name, str)], known.get("parameters")
        if len(texts) != 3 or not isinstance(parameters, dict):
            raise Unusable(f"no manifest of a search backend: {shown(content)}")
        try:
            json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
        except ValueError as error:
            raise Unusable(f"a manifest that cannot be written: {error}") from None
        for name in counts:
            count(parameters.get(name), f"the parameter {name}")
        backend, digest, analyzer = texts
        return cls(backend, digest, count(known.get("passages"), "the number of passages"), analyzer, parameters)


def was_closed(backend: str) -> SearchUnavailable:
    """The error of a search with a backend that was closed, or that is closed meanwhile."""
    return SearchUnavailable(f"the backend {backend} was closed")


def check_request(queries: Sequence[str], k: int) -> None:
    """Refuse what no backend can answer; every backend calls this first.

    Raises:
        BadQuery: ``k`` is not an integer of at least 1, ``queries`` is one bare string, or an item is not a string.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise BadQuery(f"k must be an integer of at least 1, not {k!r}")
    if isinstance(queries, str):
        raise BadQuery("queries must be a list of strings, not one string; write [query]")
    for position, query in enumerate(queries):
        if not isinstance(query, str):
            raise BadQuery(f"query {position} is of type {type(query).__name__}, not a string")


@runtime_checkable
class SearchBackend(Protocol):
    """Finds passages for plain-text queries. Queries have no syntax; an empty query finds nothing.

    Backends are shared, read-only and safe to use from several threads.
    """

    @property
    def manifest(self) -> Manifest:
        """The manifest of this backend."""
        ...

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return at most ``k`` hits per query, best first, ties by passage id.

        Raises:
            BadQuery: ``k < 1`` or a query is not a string.
            SearchUnavailable: the backend cannot answer now (``SearchTimeout`` if it was too slow).
        """
        ...

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The asynchronous twin of ``search``."""
        ...

    def close(self) -> None:
        """Release what the backend holds; calling it twice is fine."""
        ...


def split_uri(uri: str) -> tuple[SplitResult, str]:
    """The parts of a URI that names a host, and what of it may be shown: neither user and password nor options.

    Raises:
        SearchError: It cannot be read. It is not repeated, as a key may stand in it at the wrong place.
    """
    try:
        parts = urlsplit(uri)
        readable = (parts.port or 1) > 0 and not parts.fragment
    except ValueError:
        readable = False
    if not readable:
        scheme = uri.partition(":")[0]
        raise SearchError(
            f"{scheme}: the URI cannot be read, look at its host and port, and for a #; it is not shown here in case "
            "it holds a key"
        )
    return parts, f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
