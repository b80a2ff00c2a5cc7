"""Answers of an endpoint, kept in one SQLite file: the same request of the same sample is not paid for twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self

from at2po_agent.atomic_files import DiskError, writing
from search_backend.outside import Unusable, read_json

_PATIENCE_S = 60.0  # with others who write
_AGAIN_S = 0.02  # between two tries to switch to a write-ahead log


class ResponseCache:
    """A file of answers. Several processes may use it at a time; a killed one leaves it whole.

    An address covers the endpoint's URL, every field of the request (model, messages, sampling, tools) and the index of
    the sample, so that samples of one question stay different. The key is in none of them.

    Raises:
        DiskError: the file cannot be opened, or is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = _opened(path)
        except sqlite3.Error as error:
            raise DiskError(f"the response cache {path} cannot be used: {error}") from error

    def get(self, address: Any) -> dict[str, Any] | None:
        """The answer to a request, if it is known; a damaged row is as none.

        Raises:
            DiskError: the file cannot be read.
        """
        try:
            row = self._db.execute("SELECT body FROM answers WHERE address = ?", (_digest(address),)).fetchone()
            body = None if row is None else read_json(row[0] if isinstance(row[0], bytes) else b"")
        except sqlite3.Error as error:
            raise DiskError(f"the response cache {self.path} cannot be read: {error}; remove it") from error
        except Unusable:
            return None
        return body if isinstance(body, dict) else None

    def put(self, address: Any, body: dict[str, Any]) -> None:
        """Keep an answer."""
        try:
            values = (_digest(address), json.dumps(body))
            self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", values)
        except sqlite3.Error as error:
            raise DiskError(f"the response cache {self.path} cannot be written: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, timeout=_PATIENCE_S)
    database.text_factory = bytes  # a damaged row may be no UTF-8
    try:
        _write_ahead(database)
        database.execute("CREATE TABLE IF NOT EXISTS answers (address TEXT PRIMARY KEY, body TEXT NOT NULL)")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _write_ahead(database: sqlite3.Connection) -> None:
    """Switch to a write-ahead log; where several switch at once, SQLite refuses all but one without waiting."""
    until = monotonic() + _PATIENCE_S
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > until:
                raise
            sleep(_AGAIN_S)


def _digest(address: Any) -> str:
    return hashlib.sha256(json.dumps(address, sort_keys=True).encode()).hexdigest()
