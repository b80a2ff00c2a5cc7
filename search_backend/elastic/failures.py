"""Failures of Elasticsearch: what each means, which requests are sent again, and the wait for a server to be ready."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, TypeVar

import aiohttp
import elastic_transport
import elasticsearch
from elasticsearch import Elasticsearch

from search_backend.base import BadAnswer, CorpusError, SearchError, SearchTimeout, SearchUnavailable
from search_backend.bounded import TooLong
from search_backend.elastic.address import API_KEY, PASSWORD, USER, Address
from search_backend.open_files import limit_reached
from search_backend.retry import RETRYABLE, Backoff

Result = TypeVar("Result")

BACKOFF = Backoff(first=0.2, longest=10.0)

CLIENT_ERRORS = (elastic_transport.TransportError, elasticsearch.ApiError, RecursionError)
"""What the client library raises; RecursionError where the JSON of an answer is nested too deep for it."""


@dataclass(frozen=True)
class Failure:
    """A failure as an error of ours, and whether the same request may succeed later."""

    error: SearchError
    again: bool


def failure(error: Exception, address: Address) -> Failure:
    """Judge an error of the client library."""
    if isinstance(error, elasticsearch.ApiError):
        return status_failure(error.status_code, _reason(error.body) or _plain(error.message), address)
    if isinstance(error, elastic_transport.ConnectionTimeout):
        message = f"{address}: no answer within {address.timeout:g} s (set by ?timeout=)"
        return Failure(SearchTimeout(message), again=False)
    if isinstance(error, elastic_transport.TlsError):
        return Failure(
            SearchError(f"{address}: no trusted TLS connection ({error.message}); ca=FILE names who signs"), False
        )
    if isinstance(error, elastic_transport.ConnectionError):
        if isinstance(_cause(error), aiohttp.ClientPayloadError | aiohttp.ClientResponseError):
            reason = " ".join(error.message.split())
            return Failure(BadAnswer(f"{address}: no answer that can be read ({reason})"), again=True)
        return Failure(
            SearchUnavailable(f"{address}: no connection ({limit_reached(error) or error.message})"), again=True
        )
    if isinstance(error, elastic_transport.SerializationError | RecursionError):
        return Failure(BadAnswer(f"{address}: not an answer of Elasticsearch ({type(error).__name__})"), again=True)
    return Failure(SearchError(f"{address}: not an answer of Elasticsearch ({error})"), again=False)


def is_too_large(error: Exception) -> bool:
    """Whether a request of fewer parts may be answered: the request or its answer was too large."""
    if isinstance(error, elasticsearch.ApiError):
        return error.status_code == 413
    return isinstance(_cause(error), TooLong)


def _cause(error: Exception) -> BaseException | None:
    """The error of aiohttp for which the client library raised its own; in ``errors`` it does not keep it."""
    return error.__context__


def status_failure(status: int, reason: str, address: Address) -> Failure:
    """Judge an HTTP status, of a whole answer or of one item in it."""
    what = f"{address}: HTTP {status}: {reason}"
    if status == 504:
        return Failure(SearchTimeout(what), again=True)
    if status in RETRYABLE:
        return Failure(SearchUnavailable(what), again=True)
    if status in (401, 403):
        return Failure(SearchError(f"{what}; set {API_KEY}, or {USER} and {PASSWORD}"), again=False)
    if status == 404:
        return Failure(CorpusError(f"{what}; build it with: at2po-agent index build"), again=False)
    return Failure(SearchError(what), again=False)


def _reason(body: Any) -> str:
    """The server's own words about an error, from the body of an answer or of one item of it."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return str(error or "")
    roots = error.get("root_cause")
    root = roots[0] if isinstance(roots, list) and roots and isinstance(roots[0], Mapping) else error
    reason = str(root.get("reason") or error.get("reason") or error.get("type") or "")
    caused_by = error.get("caused_by")
    cause = str(caused_by.get("reason") or "") if isinstance(caused_by, Mapping) else ""
    if cause and cause not in reason:
        reason = f"{reason}: {cause}"
    if error.get("type") == "media_type_header_exception":
        needed = metadata.version("elasticsearch").split(".")[0]
        reason += f"; this client needs a server of version {needed}, and this one is older"
    return reason


def _plain(message: str) -> str:
    """The message of a proxy's error page, in one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", message).split())[:200]


def item_failure(item: Mapping[str, Any], address: Address) -> Failure:
    """Judge one item of a batch that has an ``error``."""
    status = item.get("status")
    return status_failure(status if isinstance(status, int) else 500, _reason(item), address)


def attempt(address: Address, call: Callable[[], Result], retries: int | None = None) -> Result:
    """Call the server; what may succeed later is tried again.

    Raises:
        SearchError: It failed for good.
    """
    pauses = BACKOFF.pauses(address.retries if retries is None else retries)
    while True:
        try:
            return call()
        except CLIENT_ERRORS as error:
            failed = failure(error, address)
            pause = next(pauses, None) if failed.again else None
            if pause is None:
                raise failed.error from error
            time.sleep(pause)


def part(address: Address, answer: Any, *keys: str) -> Any:
    """A part of an answer that is no search; ``keys`` say where, from the outside to the inside.

    Raises:
        BadAnswer: It is not there.
    """
    try:
        for key in keys:
            answer = answer[key]
    except (KeyError, TypeError, IndexError) as error:
        raise BadAnswer(f"{address}: not an answer of Elasticsearch: it has no {'.'.join(keys)} ({error!r})") from error
    return answer


def wait_until_ready(client: Elasticsearch, address: Address) -> None:
    """Wait, ``address.wait`` seconds at most, until the cluster answers and has its data.

    Raises:
        SearchUnavailable: It does not.
        SearchError: It never will: wrong credentials, no Elasticsearch.
    """
    deadline = time.monotonic() + address.wait
    asking = client.options(request_timeout=min(address.timeout, max(address.wait, 1.0)))
    while True:
        try:
            asking.cluster.health(wait_for_status="yellow", timeout="1s")
            return
        except CLIENT_ERRORS as error:
            failed = failure(error, address)
            if not (failed.again or isinstance(failed.error, SearchTimeout)):
                raise failed.error from error
            if time.monotonic() > deadline:
                raise SearchUnavailable(f"{failed.error} (waited {address.wait:g} s for the server)") from error
            time.sleep(0.25)
