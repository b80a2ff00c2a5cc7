"""The control side of one SGLang server: health, weight version, pause, flush, memory. Written against 0.5.23."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from at2po_agent.policy.base import PolicyError, PolicyUnavailable
from at2po_agent.policy.sglang.server import read_weight_version
from at2po_agent.policy.sglang.transport import BadAnswer
from search_backend.open_files import limit_reached
from search_backend.outside import ERROR_BYTES, Unusable, read_json, shown
from search_backend.retry import RETRYABLE

_OPENER = build_opener(ProxyHandler({}))  # servers of one's own; a proxy for the web does not know them
_MOST_BYTES = 16 * 1024 * 1024  # of an answer
_MOST_RANKS = 1024  # tensor-parallel processes of one server
_MEMORY = ("kv_cache", "weights")


class NoSuchCall(PolicyError):
    """The server has no such path: it is of another version of SGLang."""


class SglangAdmin:
    """Calls to one server.

    Every method raises ``PolicyUnavailable`` where the server cannot be reached and ``PolicyError`` with the server's
    words where it refuses.

    Args:
        url: of the server, such as ``http://127.0.0.1:30000``.
        timeout: seconds for one call; a weight update of a large model takes some.
    """

    def __init__(self, url: str, timeout: float = 600.0) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout

    def call(self, path: str, body: dict[str, Any] | None = None, timeout: float | None = None) -> dict[str, Any]:
        """``POST`` a body, or ``GET`` where there is none; the answer's JSON, {} where it has none."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data, {"Content-Type": "application/json"})
        said = "no reason given"
        seconds = timeout or self.timeout
        deadline = time.monotonic() + seconds
        try:
            with _OPENER.open(request, timeout=seconds) as answer:
                text = _read(answer, _MOST_BYTES + 1, deadline)
        except HTTPError as error:
            with suppress(OSError, http.client.HTTPException), error:
                said = _read(error, ERROR_BYTES, deadline).decode(errors="replace")[:500]
            kind = NoSuchCall if error.code == 404 else PolicyUnavailable if error.code in RETRYABLE else PolicyError
            raise kind(f"{self.url}{path} answered {error.code}: {said}") from error
        except (URLError, OSError, http.client.HTTPException) as error:
            why = limit_reached(error) or str(getattr(error, "reason", error))
            raise PolicyUnavailable(f"{self.url} cannot be reached: {why}") from error
        if len(text) > _MOST_BYTES:
            raise PolicyUnavailable(f"{self.url}{path} answered more than {_MOST_BYTES:,} bytes")
        try:
            found = read_json(text or b"{}")
        except Unusable:
            return {}  # some calls answer in plain words
        found = found if isinstance(found, dict) else {}
        if found.get("success") is False:  # some versions say so with status 200
            raise PolicyError(f"{self.url}{path} did not work: {shown(found.get('message'))}")
        return found

    def healthy(self, timeout: float = 5.0) -> bool:
        """Whether it generates: ``/health`` samples a token, about a second on a CPU."""
        try:
            self.call("/health", timeout=timeout)
        except PolicyError:
            return False
        return True

    def ranks(self) -> int:
        """Processes that the server splits its weights over (``tp_size``)."""
        given = self.call("/server_info", timeout=30).get("tp_size", 1)
        if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= _MOST_RANKS:
            raise BadAnswer(f"{self.url}/server_info answered a tp_size that is none: {shown(given)}")
        return given

    def has_memory_saver(self) -> bool:
        """Whether the server was started with ``--enable-memory-saver``."""
        given = self.call("/server_info", timeout=30).get("enable_memory_saver") or False
        if not isinstance(given, bool):
            raise BadAnswer(f"{self.url}/server_info answered an enable_memory_saver that is none: {shown(given)}")
        return given

    def weight_version(self) -> str:
        """Label of the weights that it has; ``default`` where none were sent."""
        return read_weight_version(self.call("/model_info", timeout=30), self.url)

    def flush_cache(self) -> None:
        """Forget all keys and values; refused while requests run."""
        self.call("/flush_cache", {})

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is generated inside. Running requests go back to the queue and go on afterwards."""
        self.call("/pause_generation", {"mode": "retract"})
        try:
            yield
        finally:
            self.call("/continue_generation", {})

    def release_memory(self) -> None:
        """Free the memory of the weights and of the keys and values, until both are resumed.

        The server must run with ``--enable-memory-saver``; a server on a CPU dies of this call.
        """
        self.call("/release_memory_occupation", {"tags": list(_MEMORY)})

    def resume_weights(self) -> None:
        """Take the weights' memory back; what is in it is not defined until weights are sent."""
        self.call("/resume_memory_occupation", {"tags": ["weights"]})

    def resume_cache(self) -> None:
        """Take the memory of the keys and values back."""
        self.call("/resume_memory_occupation", {"tags": ["kv_cache"]})


def _read(answer: HTTPResponse | HTTPError, most: int, deadline: float) -> bytes:
    """The first ``most`` bytes of a body; the library's own time-out is of each part that arrives.

    Raises:
        TimeoutError: they were not there at the deadline, on the clock of ``time.monotonic``.
    """
    body = bytearray()
    while len(body) < most and (part := answer.read1(min(most - len(body), 64 * 1024))):
        body += part
        if time.monotonic() > deadline:
            raise TimeoutError("no complete answer in time")
    return bytes(body)
