import asyncio

import pytest

from at2po_agent.policy.base import Request, Sampling
from at2po_agent.rollouts.lockstep import Lockstep
from tests.helpers.toys import Scripted


def request(*key: int) -> Request:
    return Request(prompt=(1,), max_new_tokens=5, key=key)


def test_a_call_waits_for_every_member_and_the_batch_is_in_key_order():
    async def scenario():
        policy = Scripted()
        gate = Lockstep(policy, members=2)
        first = asyncio.create_task(gate.generate([request(1, 0), request(1, 1)], Sampling()))
        await asyncio.sleep(0.01)
        assert policy.calls == []  # one member has nothing yet
        second = await gate.generate([request(0, 0)], Sampling())
        assert [[r.key for r in call] for call in policy.calls] == [[(0, 0), (1, 0), (1, 1)]]
        by_key = {r.key: completion for r, completion in policy.completions}
        assert second == [by_key[0, 0]] and await first == [by_key[1, 0], by_key[1, 1]]

    asyncio.run(scenario())


def test_a_member_that_leaves_is_not_waited_for():
    async def scenario():
        gate = Lockstep(Scripted(), members=2)
        waiting = asyncio.create_task(gate.generate([request(0)], Sampling()))
        await asyncio.sleep(0)
        gate.leave()
        assert len(await asyncio.wait_for(waiting, 1)) == 1

    asyncio.run(scenario())


def test_an_error_of_the_engine_reaches_every_caller():
    class Broken(Scripted):
        async def generate(self, requests, sampling):
            raise RuntimeError("out of memory")

    async def scenario():
        gate = Lockstep(Broken(), members=2)
        calls = [gate.generate([request(i)], Sampling()) for i in range(2)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(error) for error in errors] == ["out of memory"] * 2

    asyncio.run(scenario())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_who_asked_first_does_not_matter(order):
    async def scenario():
        policy = Scripted()
        gate = Lockstep(policy, members=3)
        await asyncio.gather(*(gate.generate([request(i)], Sampling()) for i in order))
        return [r.key for r in policy.calls[0]]

    assert asyncio.run(scenario()) == [(0,), (1,), (2,)]
