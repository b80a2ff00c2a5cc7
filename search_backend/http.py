r"""Search with a service that speaks Search-R1's ``POST /retrieve``: dense retrievers stay where they are.

The request is ``{"queries": […], "topk": k, "return_scores": true}``, the answer
``{"result": [[{"document": {"id", "contents": "\"Title\"\ntext"}, "score"}, …], …]}``
(github.com/PeterGriffinJin/Search-R1, search_r1/search/retrieval_server.py). What such a service searches cannot be
asked, so the manifest holds its address: give the service a new address when its corpus changes.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qsl, urlsplit, urlunsplit
from urllib.request import ProxyHandler, Request, build_opener

from search_backend.base import (
    Hit,
    Manifest,
    Passage,
    SearchError,
    SearchTimeout,
    SearchUnavailable,
    check_request,
)
from search_backend.retry import RETRYABLE, Backoff

_BACKOFF = Backoff(first=0.2)
_OPENER = build_opener(ProxyHandler({}))  # services of one's own; a proxy for the web does not know them


class HttpBackend:
    """A retrieval service. Queries without a letter or digit find nothing and are not sent.

    Args:
        url: Of the endpoint, usually ``http://HOST:PORT/retrieve``.
        timeout: Seconds for one request.
        retries: Of a request that may succeed later: no connection, or a status in ``retry.RETRYABLE``.
    """

    def __init__(self, url: str, timeout: float = 30.0, retries: int = 3) -> None:
        self._url, self._timeout, self._retries = url, timeout, retries
        self._closed = False

    @property
    def manifest(self) -> Manifest:
        """The address in place of a digest, which the protocol does not have; ``passages`` is 0 for unknown."""
        digest = hashlib.sha256(self._url.encode()).hexdigest()
        return Manifest("http", digest, 0, "unknown", {"url": self._url, "protocol": "search-r1"})

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return at most ``k`` hits per query, best first, ties by passage id.

        Raises:
            BadQuery: ``k < 1`` or a query is not a string.
            SearchTimeout: No answer within the timeout.
            SearchUnavailable: No connection, or the service is overloaded, also after the retries.
            SearchError: The service refuses the request or answers something else.
        """
        check_request(queries, k)
        if self._closed:
            raise SearchUnavailable(f"the backend {self._url} was closed")
        asked = [query for query in dict.fromkeys(queries) if any(map(str.isalnum, query))]
        found: dict[str, list[Hit]] = {}
        if asked:
            sent = [query.encode("utf-8", "replace").decode() for query in asked]
            answer = self._post({"queries": sent, "topk": k, "return_scores": True})
            found = dict(zip(asked, self._read(answer, len(asked), k), strict=True))
        return [list(found.get(query, ())) for query in queries]

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """``search`` on a worker thread."""
        return await asyncio.to_thread(self.search, queries, k)

    def close(self) -> None:
        """Nothing is held between requests; calling it twice is fine."""
        self._closed = True

    def __reduce__(self) -> tuple[Callable[..., HttpBackend], tuple[str, float, int]]:
        return HttpBackend, (self._url, self._timeout, self._retries)

    def _post(self, body: Mapping[str, Any]) -> bytes:
        """Send one request; what may succeed later is tried again."""
        request = Request(self._url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        for retry in range(self._retries + 1):
            if retry:
                time.sleep(_BACKOFF.pause(retry))
            try:
                with _OPENER.open(request, timeout=self._timeout) as response:
                    content: bytes = response.read()
                return content
            except HTTPError as error:
                with error:
                    failed = self._refused(error)
                if error.code not in RETRYABLE:
                    raise failed from error
            except (URLError, http.client.HTTPException, OSError) as error:
                reason = error.reason if isinstance(error, URLError) else error
                if isinstance(reason, (socket.timeout, TimeoutError)):
                    raise SearchTimeout(f"{self._url}: no answer within {self._timeout:g} s") from error
                failed = SearchUnavailable(f"{self._url}: no connection ({reason})")
        raise failed

    def _refused(self, error: HTTPError) -> SearchError:
        said = error.read(300).decode("utf-8", "replace").strip() or error.reason
        message = f"{self._url}: HTTP {error.code}: {said}"
        if error.code == 504:
            return SearchTimeout(message)
        return SearchUnavailable(message) if error.code in RETRYABLE else SearchError(message)

    def _read(self, answer: bytes, queries: int, k: int) -> list[list[Hit]]:
        try:
            results = json.loads(answer)["result"]
            if len(results) != queries:
                raise ValueError(f"{len(results)} results for {queries} queries")
            lists = [[_hit(entry) for entry in result] for result in results]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SearchError(
                f"{self._url}: not an answer of a Search-R1 service ({error!r}): {answer[:200]!r}"
            ) from error
        return [sorted(hits, key=lambda hit: (-hit.score, hit.passage.id))[:k] for hits in lists]


def _hit(entry: Mapping[str, Any]) -> Hit:
    """One entry; the document has ``contents``, or ``title`` and ``text``, and may lack an id."""
    document, score = entry["document"], float(entry["score"])
    if "text" in document:
        title, text = str(document.get("title") or ""), str(document["text"])
    else:
        title, _, text = str(document["contents"]).partition("\n")
        if len(title) > 1 and title.startswith('"') and title.endswith('"'):
            title = title[1:-1]
    identifier = document.get("id", document.get("_id"))
    if identifier is None:
        identifier = hashlib.sha256(f"{title}\n{text}".encode()).hexdigest()[:16]
    return Hit(Passage(str(identifier), title, text), score)


def open_uri(uri: str) -> HttpBackend:
    """Open ``http://HOST:PORT/retrieve``; ``?timeout=30&retries=3`` are ours and not sent.

    Raises:
        SearchError: The URI is malformed, or names a user (secrets have no place in a URI).
    """
    parts = urlsplit(uri)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if not parts.netloc or "@" in parts.netloc:
        raise SearchError(f"{shown}: write http://HOST:PORT/retrieve, without user and password")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    try:
        timeout, retries = float(options.pop("timeout", 30)), int(options.pop("retries", 3))
    except ValueError as error:
        raise SearchError(f"{shown}: timeout and retries are numbers ({error})") from error
    if options or not 0 < timeout < 1e6 or retries < 0:
        raise SearchError(f"{shown}: the options are timeout (above 0) and retries (0 or more), nothing else")
    return HttpBackend(
        urlunsplit((parts.scheme.lower(), parts.netloc, parts.path or "/retrieve", "", "")), timeout, retries
    )
