from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.sglang_server import MICROWIKI, SGLang


@pytest.fixture(scope="package")
def two_sglangs() -> Iterator[tuple[SGLang, SGLang]]:
    """Two servers of ``builtin:microwiki`` that tests may kill and update; each leaves both alive.

    Those tests are of the xdist group ``two_sglangs``. The servers end with this folder's tests: each takes 2 GB.
    """
    servers = SGLang(MICROWIKI), SGLang(MICROWIKI)
    yield servers
    for server in servers:
        server.kill()
