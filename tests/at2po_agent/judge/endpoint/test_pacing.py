import asyncio

import pytest

from at2po_agent.judge.endpoint.pacing import Pacer


def test_an_overload_halves_once_for_a_round_and_success_opens_again():
    async def run():
        pacer = Pacer(16)
        slots = [pacer.slot() for _ in range(16)]
        rounds = [await slot.__aenter__() for slot in slots]
        for started_in in rounds:  # all sixteen were refused together
            pacer.overloaded(started_in)
        assert pacer.limit == 8
        for slot in slots:
            await slot.__aexit__(None, None, None)
        async with pacer.slot() as started_in:
            pacer.overloaded(started_in)
        assert pacer.limit == 4
        for _ in range(4):
            pacer.went_well()  # a full round: one more
        assert pacer.limit == 5
        for _ in range(1000):
            pacer.went_well()
        assert pacer.limit == 16  # never more than was asked for
        for _ in range(20):
            async with pacer.slot() as started_in:
                pacer.overloaded(started_in)
        assert pacer.limit == 1

    asyncio.run(run())


def test_no_more_run_than_the_limit_and_first_come_first_served():
    async def run():
        pacer, order, running, most = Pacer(3), [], 0, 0

        async def work(number):
            nonlocal running, most
            async with pacer.slot():
                order.append(number)
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.001)
                running -= 1

        await asyncio.gather(*map(work, range(20)))
        assert (order, most) == (list(range(20)), 3)

    asyncio.run(run())


@pytest.mark.parametrize("let_in", [False, True])
def test_a_cancelled_waiter_gives_its_place_back(let_in):
    async def run():
        pacer = Pacer(1)
        first = pacer.slot()
        await first.__aenter__()
        waiter = asyncio.create_task(pacer.slot().__aenter__())
        await asyncio.sleep(0)
        if let_in:  # released and cancelled in the same turn of the loop
            await first.__aexit__(None, None, None)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        if not let_in:
            await first.__aexit__(None, None, None)
        async with asyncio.timeout(1), pacer.slot():
            pass

    asyncio.run(run())


def test_everybody_waits_for_the_pause_that_is_asked_for():
    async def run():
        loop = asyncio.get_running_loop()
        pacer = Pacer(4)
        async with pacer.slot() as started_in:
            pacer.overloaded(started_in, pause=0.2)
        began = loop.time()
        async with pacer.slot():
            assert loop.time() - began >= 0.19

    asyncio.run(run())
