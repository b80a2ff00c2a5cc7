"""How much is read of an answer; test_http and elastic/test_nodes measure the memory, and have the deadlines."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from search_backend.bounded import ANSWER_BYTES, BoundedResponse, TooLong
from search_backend.outside import ERROR_BYTES


def read(uri):
    async def ask():
        async with aiohttp.ClientSession(response_class=BoundedResponse) as session, session.get(uri) as response:
            return await response.read()

    return asyncio.run(ask())


def test_an_answer_is_read_whole_up_to_its_bound(service):
    for size in (0, 1000, ANSWER_BYTES):
        service.script = [(200, bytes(size))]
        assert len(read(service.uri)) == size
    service.script = [(200, bytes(ANSWER_BYTES + 1))]
    with pytest.raises(TooLong, match="longer than 67,108,864 bytes"):
        read(service.uri)


def test_of_an_error_the_beginning_is_read(service):
    service.script = [(500, bytes(10)), (400, bytes(10 * ERROR_BYTES))]
    assert [len(read(service.uri)) for _ in range(2)] == [10, ERROR_BYTES]
