from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

import pytest

from at2po_agent.judge.endpoint.http_client import BoundedClient
from search_backend.outside import ERROR_BYTES, Unusable
from tests.helpers.chat_server import Say

if TYPE_CHECKING:
    from httpx2 import Response


def get(server, most: int = 1000) -> Response:
    async def ask() -> Response:
        async with BoundedClient(most) as client:
            return await client.send(client.build_request("POST", f"{server.url}/chat/completions", json={}))

    return asyncio.run(ask())


def test_an_answer_is_read_whole_and_unpacked(serve) -> None:
    packed = Say(raw=gzip.compress(b"hello " * 100), headers={"Content-Encoding": "gzip"})
    response = get(serve(lambda asked: packed))
    assert response.content == b"hello " * 100 and "content-encoding" not in response.headers


@pytest.mark.parametrize(
    "answer",
    [
        Say(raw=b"x" * 1001),
        Say(raw=gzip.compress(b"0" * 50_000_000), headers={"Content-Encoding": "gzip"}),
        Say(raw=b"x", headers={"Content-Encoding": "gzip"}),
        Say(raw=b"x", headers={"Content-Encoding": "br"}),
    ],
)
def test_what_is_too_long_or_not_packed_as_it_says_is_unusable(serve, answer: Say) -> None:
    with pytest.raises(Unusable):
        get(serve(lambda asked: answer))


def test_of_an_error_the_beginning_is_read_and_a_redirect_is_not_followed(serve) -> None:
    assert len(get(serve(lambda asked: Say(status=500, raw=b"x" * 300_000))).content) == ERROR_BYTES
    moved = serve(lambda asked: Say(status=307, raw=b"", headers={"Location": "http://127.0.0.1:9/"}))
    assert get(moved).status_code == 307
