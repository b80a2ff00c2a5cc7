"""Search with a service that speaks Search-R1's ``POST /retrieve``: dense retrievers stay where they are.

The request is ``{"queries": […], "topk": k, "return_scores": true}``; ``search_r1`` reads the answer. What such a
service searches cannot be asked, so the manifest holds its address: give the service a new address when its corpus
changes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urljoin, urlunsplit

import aiohttp

from search_backend.background import BackgroundLoop
from search_backend.base import (
    BadAnswer,
    Hit,
    Manifest,
    SearchError,
    SearchTimeout,
    SearchUnavailable,
    check_request,
    split_uri,
    was_closed,
)
from search_backend.bounded import BoundedResponse
from search_backend.forks import PerProcess
from search_backend.open_files import limit_reached
from search_backend.outside import Unusable
from search_backend.retry import RETRYABLE, Backoff
from search_backend.search_r1 import read_hits, read_results

CONNECTIONS = 32
"""Requests of one process at the same time; what is asked meanwhile waits its turn."""

_BACKOFF = Backoff(first=0.2)
_NO_ANSWER = "not an answer of a Search-R1 service"
_IDLE_S = 4.0  # less than the 5 s after which uvicorn closes a connection that nothing is sent on

T = TypeVar("T")


class HttpBackend:
    """A retrieval service. Queries without a letter or digit find nothing and are not sent.

    Connections are kept between searches, which may come from any thread and any event loop. A forked or unpickled copy
    makes its own.

    Args:
        url: Of the endpoint, usually ``http://HOST:PORT/retrieve``.
        timeout: Seconds from sending one request to the end of its answer.
        retries: Of a request that may succeed later: no connection, a status in ``retry.RETRYABLE``,
            or an answer that cannot be read.
    """

    def __init__(self, url: str, timeout: float = 30.0, retries: int = 3) -> None:
        self._url, self._timeout, self._retries = url, timeout, retries
        self._client = PerProcess(partial(_Client, url, timeout, retries), partial(was_closed, url))

    @property
    def manifest(self) -> Manifest:
        """The address in place of a digest, which the protocol does not have; ``passages`` is 0 for unknown."""
        digest = hashlib.sha256(self._url.encode()).hexdigest()
        return Manifest("http", digest, 0, "unknown", {"url": self._url, "protocol": "search-r1"})

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return at most ``k`` hits per query, best first, ties by passage id.

        Raises:
            BadQuery: ``k < 1`` or a query is not a string.
            SearchTimeout: No whole answer within the timeout.
            SearchUnavailable: No connection, or the service is overloaded, also after the retries.
            BadAnswer: It answers something else than it did, also after the retries.
            SearchError: The service refuses the request, or never gave the answer of such a service.
        """
        return self._submit(queries, k).result()

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """``search`` that lets the event loop go on."""
        return await asyncio.wrap_future(self._submit(queries, k))

    def close(self) -> None:
        """Close the connections; calling it twice is fine."""
        self._client.close()

    def __reduce__(self) -> tuple[Callable[..., HttpBackend], tuple[str, float, int]]:
        return HttpBackend, (self._url, self._timeout, self._retries)

    def _submit(self, queries: Sequence[str], k: int) -> Future[list[list[Hit]]]:
        check_request(queries, k)
        client = self._client.get()
        return client.submit(self._answer(client, queries, k))

    async def _answer(self, client: _Client, queries: Sequence[str], k: int) -> list[list[Hit]]:
        asked = [query for query in dict.fromkeys(queries) if any(map(str.isalnum, query))]
        hits: dict[str, list[Hit]] = {}
        if asked:
            sent = [query.encode("utf-8", "replace").decode() for query in asked]
            body = {"queries": sent, "topk": k, "return_scores": True}
            hits = dict(zip(asked, await client.ask(body, len(asked)), strict=True))
        return [hits.get(query, [])[:k] for query in queries]


class _OtherService(BadAnswer):
    """An answer that is none of a Search-R1 service at all."""


class _Client:
    """The connections of one process, on a background event loop; the arguments are the backend's."""

    def __init__(self, url: str, timeout: float, retries: int) -> None:
        self._url, self._timeout, self._retries = url, timeout, retries
        self._answered = False  # as a service does, once at least
        self._background = BackgroundLoop("search-http", partial(was_closed, url))
        self._background.run(self._open())

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine, which may call ``ask``, on the client's event loop."""
        return self._background.submit(work)

    def close(self) -> None:
        """End what is under way, and the connections."""
        self._background.close(self._session.close)

    async def ask(self, body: Mapping[str, Any], queries: int) -> list[list[Hit]]:
        """Send one request, and again what may succeed later; return the hits of each of its queries, best first.

        Raises:
            SearchError: It failed for good.
        """
        content = json.dumps(body).encode()
        pauses = _BACKOFF.pauses(self._retries)
        while True:
            try:
                return self._read(await self._post(content), queries)
            except TimeoutError as error:
                raise SearchTimeout(f"{self._url}: no answer within {self._timeout:g} s (set by ?timeout=)") from error
            except SearchUnavailable as error:
                pause = next(pauses, None)
                if pause is None:
                    # Whoever never answered as a service does is none: no search can work.
                    if isinstance(error, _OtherService) and not self._answered:
                        raise SearchError(str(error)) from error
                    raise
                await asyncio.sleep(pause)

    def _read(self, answer: bytes, queries: int) -> list[list[Hit]]:
        try:
            results = read_results(answer, queries)
        except Unusable as error:
            raise _OtherService(f"{self._url}: {_NO_ANSWER} ({error}): {answer[:200]!r}") from error
        self._answered = True
        try:
            return [read_hits(entries) for entries in results]
        except Unusable as error:
            raise BadAnswer(f"{self._url}: {_NO_ANSWER}: {error}") from error

    async def _open(self) -> None:
        # Not the connector's limit: the timeout would count what a request waits for a connection.
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            response_class=BoundedResponse,
        )

    async def _post(self, content: bytes) -> bytes:
        try:
            async with (
                self._slots,
                self._session.post(self._url, data=content, allow_redirects=False) as response,
            ):
                answer = await response.read()
        except TimeoutError:
            raise
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as error:
            said = " ".join(str(error).split())
            raise BadAnswer(f"{self._url}: no answer that can be read ({said})") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            raise SearchUnavailable(f"{self._url}: no connection ({limit_reached(error) or reason})") from error
        if not 200 <= response.status < 300:
            raise self._refused(response, answer)
        return answer

    def _refused(self, response: aiohttp.ClientResponse, answer: bytes) -> SearchError:
        said = answer[:300].decode("utf-8", "replace").strip() or response.reason
        message = f"{self._url}: HTTP {response.status}: {said}"
        if 300 <= response.status < 400 and "location" in response.headers:
            _, to = split_uri(urljoin(self._url, response.headers["location"]))
            return SearchError(f"{self._url}: HTTP {response.status}: it has moved to {to}, give that address")
        if response.status == 504:
            return SearchTimeout(message)
        return SearchUnavailable(message) if response.status in RETRYABLE else SearchError(message)


def open_uri(uri: str) -> HttpBackend:
    """Open ``http://HOST:PORT/retrieve``; ``?timeout=30&retries=3`` are ours and not sent.

    Raises:
        SearchError: The URI is malformed, or names a user (secrets have no place in a URI).
    """
    parts, shown = split_uri(uri)
    if not parts.netloc or "@" in parts.netloc:
        shown = shown if parts.netloc else f"{parts.scheme}:"
        raise SearchError(f"{shown}: write http://HOST:PORT/retrieve, without user and password")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    try:
        timeout, retries = float(options.pop("timeout", 30)), int(options.pop("retries", 3))
    except ValueError as error:
        raise SearchError(f"{shown}: timeout and retries are numbers") from error
    if options or not 0 < timeout < 1e6 or retries < 0:
        raise SearchError(f"{shown}: the options are timeout (above 0) and retries (0 or more), nothing else")
    return HttpBackend(
        urlunsplit((parts.scheme.lower(), parts.netloc, parts.path or "/retrieve", "", "")), timeout, retries
    )
