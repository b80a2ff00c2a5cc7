"""A client whose bulk requests are patient: what may succeed later is sent again, and what is too large in parts."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from elastic_transport import ObjectApiResponse
from elasticsearch import ApiError, Elasticsearch

from search_backend.base import BadAnswer, CorpusError, SearchError, SearchTimeout
from search_backend.elastic.address import Address
from search_backend.elastic.failures import BACKOFF, CLIENT_ERRORS, Failure, failure, item_failure
from search_backend.retry import OVERLOADED

RETRIES = 12
"""Of a bulk request: about 80 seconds in all, the time of a server's restart."""


class BulkClient(Elasticsearch):
    """For ``helpers.parallel_bulk``, which by itself retries nothing.

    ``address`` must be set; ``stop`` is set by the first request that fails for good, and ends the others at once.
    """

    address: Address
    stop = threading.Event()
    refused_bytes: float = math.inf  # the smallest request that was too large

    def bulk(self, *, operations: Sequence[Any], **arguments: Any) -> ObjectApiResponse[Any]:  # type: ignore[override]
        """Send the lines of a bulk request (action, document, action, …); the items answer them in order.

        Raises:
            CorpusError: One document alone is larger than the server takes.
            SearchUnavailable: The server is gone, or stays overloaded.
            SearchError: It refuses the request.
        """
        try:
            return self._patiently(list(operations), arguments)
        except SearchError:
            self.stop.set()
            raise

    def _patiently(self, lines: list[Any], arguments: dict[str, Any]) -> ObjectApiResponse[Any]:
        # The server refused this size before: do not ask again.
        size = sum(map(len, lines))
        if size >= self.refused_bytes and len(lines) > 2:
            return self._halved(lines, arguments)
        # Answers by document; ``open_`` are the documents that the server has not taken yet.
        items: list[dict[str, Any] | None] = [None] * (len(lines) // 2)
        open_ = list(range(len(items)))
        pauses = BACKOFF.pauses(RETRIES)
        while True:
            try:
                response = super().bulk(operations=[lines[2 * i + part] for i in open_ for part in (0, 1)], **arguments)
            except ApiError as error:
                # Too large: send halves, down to a single document, which nothing can make smaller.
                if error.status_code == 413 and len(lines) > 2:
                    self.refused_bytes = min(self.refused_bytes, size)
                    return self._halved(lines, arguments)
                if error.status_code == 413:
                    raise CorpusError(
                        f"{self.address}: a document of {size} bytes is larger than the server takes (HTTP 413; "
                        f"http.max_content_length, or a proxy's limit): {lines[1][:120]!r}…"
                    ) from error
                # Other errors: wait and try again, or raise where that does not help.
                self._pause(failure(error, self.address), pauses, error)
                continue
            except CLIENT_ERRORS as error:
                self._pause(failure(error, self.address), pauses, error)
                continue
            try:
                for i, item in zip(open_, response["items"], strict=True):
                    items[i] = item
                # The server may have taken some documents and had no room for others: send only those again.
                open_ = [i for i in open_ if _is_busy(items[i])]
                if not open_:
                    return ObjectApiResponse(body={"items": items}, meta=response.meta)
                failed = item_failure(next(iter((items[open_[0]] or {}).values())), self.address)
            except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
                wrong = f"{self.address}: not an answer of Elasticsearch to {len(open_)} documents ({error!r})"
                failed = Failure(BadAnswer(wrong), again=True)
            self._pause(failed, pauses, None)

    def _halved(self, lines: list[Any], arguments: dict[str, Any]) -> ObjectApiResponse[Any]:
        """Send a request that is too large in two parts."""
        middle = len(lines) // 4 * 2
        first, second = (self._patiently(part, arguments) for part in (lines[:middle], lines[middle:]))
        return ObjectApiResponse(body={"items": first["items"] + second["items"]}, meta=second.meta)

    def _pause(self, failed: Failure, pauses: Iterator[float], cause: Exception | None) -> None:
        """Wait before the next try, or raise if there is none."""
        pause = next(pauses, None)
        if pause is None or not (failed.again or isinstance(failed.error, SearchTimeout)) or self.stop.wait(pause):
            raise failed.error from cause


def _is_busy(item: dict[str, Any] | None) -> bool:
    """Whether the server had no room for the document just now."""
    return item is not None and next(iter(item.values()))["status"] in OVERLOADED
