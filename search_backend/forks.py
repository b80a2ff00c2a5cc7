"""Locks and clients that stay usable in a forked process, which has the memory of its parent but not its threads."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class ForkLock:
    """A reentrant lock that a fork finds free: one that another thread held meanwhile would stay locked for ever."""

    def __init__(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()

    def __enter__(self) -> None:
        if self._process != os.getpid():
            self._lock, self._process = threading.RLock(), os.getpid()
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


class Client(Protocol):
    """Holds threads and connections."""

    def close(self) -> None:
        """Release them; nothing in a fork, whose parent goes on with them."""
        ...


C = TypeVar("C", bound=Client)


class PerProcess(Generic[C]):
    """A client that every process makes at its first use.

    It is closed by ``close``, at the latest with this object or at the interpreter's end.

    Args:
        make: Makes the client.
        closed: Makes the error of ``get`` after ``close``.
    """

    def __init__(self, make: Callable[[], C], closed: Callable[[], Exception]) -> None:
        self._make, self._error = make, closed
        self._client: C | None = None
        self._process = os.getpid()
        self._closed = False
        self._lock = ForkLock()

    def get(self) -> C:
        """This process's client.

        Raises:
            Exception: It was closed; what ``closed`` makes.
        """
        with self._lock:
            if self._closed:
                raise self._error()
            if self._client is None or self._process != os.getpid():
                self._client, self._process = self._make(), os.getpid()
                # This also keeps a parent's client alive in a fork, where its destructors would complain.
                weakref.finalize(self, self._client.close)
            return self._client

    def close(self) -> None:
        """Close this process's client for good; calling it twice is fine."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()
