"""A loop on its own thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from search_backend.background import BackgroundLoop


def test_results_errors_and_cancellation_cross_over() -> None:
    background, left = BackgroundLoop("beside"), threading.Event()

    async def thread() -> str:
        return threading.current_thread().name

    async def fail() -> None:
        raise LookupError("over there")

    async def stay() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            left.set()

    async def caller() -> None:
        assert await background.wait(thread()) == "beside"
        with pytest.raises(LookupError, match="over there"):
            await background.wait(fail())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(background.wait(stay()), 0.05)

    asyncio.run(caller())
    assert left.wait(5)
    assert background.run(thread()) == "beside"
    background.close()
    background.close()
    assert not any(one.name == "beside" for one in threading.enumerate())
