"""Addresses of Elasticsearch indexes, and connections to them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from elastic_transport.client_utils import parse_cloud_id

from search_backend.base import SearchError, split_uri
from search_backend.elastic.fusion import HYBRID_OPTIONS, Hybrid, parse_hybrid
from search_backend.elastic.nodes import BoundedNode

SHAPE = "elasticsearch://HOST[:PORT]/INDEX?timeout=10&retries=3&wait=10&tls=true&ca=FILE&user=NAME"
API_KEY, USER, PASSWORD = "AT2PO_ES_API_KEY", "AT2PO_ES_USER", "AT2PO_ES_PASSWORD"
"""Environment variables; secrets are read from nowhere else, so that no URI, message or manifest can hold one."""

_INDEX_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")
_OPTIONS = {
    "timeout",
    "retries",
    "wait",
    "tls",
    "ca",
    "user",
    "api_key_env",
    "password_env",
    "cloud_id",
    *HYBRID_OPTIONS,
}


@dataclass(frozen=True)
class Address:
    """The address of an index, with its time-outs. It holds no secret, only the names of their variables.

    ``index`` is the name that users give: an alias of the index that is loaded under it.
    """

    url: str
    index: str
    timeout: float = 10.0  # seconds, of one request
    retries: int = 3  # of a request that may succeed later
    wait: float = 10.0  # seconds that the server may take to be ready when the index is opened
    ca: str | None = None  # certificates to trust, a PEM file
    user: str | None = None
    api_key_env: str = API_KEY
    password_env: str = PASSWORD
    hybrid: Hybrid | None = None  # vectors beside words; None: words alone

    def __str__(self) -> str:
        return f"{self.url}/{self.index}"

    def client_options(self) -> dict[str, Any]:
        """Arguments for ``Elasticsearch``; retries are ours, so theirs are off.

        Raises:
            SearchError: A user is given without a password.
        """
        options: dict[str, Any] = {"hosts": [self.url], "request_timeout": self.timeout, "max_retries": 0}
        options["node_class"] = BoundedNode
        user = self.user or os.environ.get(USER)
        if api_key := os.environ.get(self.api_key_env):
            options["api_key"] = api_key
        elif user:
            password = os.environ.get(self.password_env)
            if not password:
                raise SearchError(f"{self}: a user is given; put the password into the variable {self.password_env}")
            options["basic_auth"] = (user, password)
        if self.ca:
            options["ca_certs"] = self.ca
        return options


def parse_address(uri: str) -> Address:
    """Read ``elasticsearch://HOST[:PORT][/PREFIX]/INDEX?…``.

    Options: ``timeout``, ``retries`` and ``wait``; ``tls`` and ``ca``; ``user``, and in ``password_env`` and
    ``api_key_env`` names of environment variables. With ``cloud_id=NAME:…`` there is no host before ``/INDEX``. With
    ``hybrid=MODEL`` vectors are searched beside words, see ``fusion.parse_hybrid``.

    Raises:
        SearchError: The URI is malformed. A password in it is not repeated.
    """
    parts, shown = split_uri(uri)
    if "@" in parts.netloc:
        raise SearchError(
            f"{shown}: no user and password in a URI, which is stored with runs; use ?user=NAME and the variable "
            f"{PASSWORD}, or {API_KEY}"
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(options.keys() - _OPTIONS):
        name = repr(unknown[0]) if re.fullmatch("[a-z_]{1,20}", unknown[0]) else "(not shown, it may be a key)"
        raise SearchError(f"{shown}: unknown option {name}; known: {', '.join(sorted(_OPTIONS))}")
    prefix, _, index = unquote(parts.path).rpartition("/")
    if not _INDEX_NAME.fullmatch(index):
        raise SearchError(f"{shown}: {index!r} is no index name (a-z, 0-9, '.', '_' and '-'); write {SHAPE}")
    ca = options.get("ca")
    if ca is not None and not Path(ca).expanduser().is_file():
        raise SearchError(f"{shown}: ca: there is no file {ca}")
    return Address(
        url=_url(parts.netloc, prefix, options, shown),
        index=index,
        timeout=_number(options, "timeout", 10.0, shown),
        retries=int(_number(options, "retries", 3, shown)),
        wait=_number(options, "wait", 10.0, shown),
        ca=None if ca is None else str(Path(ca).expanduser()),
        user=options.get("user"),
        api_key_env=options.get("api_key_env", API_KEY),
        password_env=options.get("password_env", PASSWORD),
        hybrid=parse_hybrid(options, shown),
    )


def _url(host: str, prefix: str, options: Mapping[str, str], shown: str) -> str:
    if cloud_id := options.get("cloud_id"):
        try:
            found = parse_cloud_id(cloud_id).es_address
        except ValueError as error:
            raise SearchError(f"{shown}: cloud_id cannot be read ({error})") from error
        if host or found is None:
            raise SearchError(f"{shown}: cloud_id names the host; write elasticsearch:///INDEX?cloud_id=NAME:…")
        return f"https://{found[0]}:{found[1]}"
    try:
        parsed = urlsplit(f"//{host}")
        name, port = parsed.hostname, parsed.port or 9200
    except ValueError as error:
        raise SearchError(f"{shown}: {error}; write {SHAPE}") from error
    if not name:
        raise SearchError(f"{shown}: it names no host; write {SHAPE}")
    tls = options.get("tls", "true" if "ca" in options else "false")
    if tls not in ("true", "false"):
        raise SearchError(f"{shown}: tls is true or false, not {tls!r}")
    name = f"[{name}]" if ":" in name else name
    return f"{'https' if tls == 'true' else 'http'}://{name}:{port}{prefix}"


def _number(options: Mapping[str, str], name: str, default: float, shown: str) -> float:
    try:
        value = float(options.get(name, default))
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6 or (name == "timeout" and value == 0):
        raise SearchError(f"{shown}: {name} must be a positive number, not {options[name]!r}")
    return value
