import asyncio

import pytest

from at2po_agent.tasks import run_all, run_pool


def test_results_come_in_order_whoever_is_first():
    async def after(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    assert asyncio.run(run_all(after(seconds) for seconds in (0.02, 0.0, 0.01))) == [0.02, 0.0, 0.01]


def test_the_first_error_is_raised_bare_and_cancels_the_others():
    cancelled = []

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        asyncio.run(run_all([waits(), fails(), waits()]))
    assert cancelled == [True, True]


def test_a_pool_takes_items_in_order_and_only_so_many_at_a_time():
    running, most, begun, taken = 0, 0, [], []

    def items():
        for item in range(7):
            taken.append(item)
            yield item

    async def work(item: int) -> None:
        nonlocal running, most
        begun.append(item)
        running += 1
        most = max(most, running)
        assert taken == begun  # nothing is taken before a worker is free
        await asyncio.sleep(0.001 * (7 - item))
        running -= 1

    asyncio.run(run_pool(items(), work, at_a_time=3))
    assert (most, begun) == (3, list(range(7)))


def test_an_error_ends_a_pool_before_the_items_that_are_left():
    done = []

    async def work(item: int) -> None:
        if item == 2:
            raise ZeroDivisionError("a bug")
        done.append(item)

    with pytest.raises(ZeroDivisionError, match="a bug"):
        asyncio.run(run_pool(range(100), work, at_a_time=1))
    assert done == [0, 1]
