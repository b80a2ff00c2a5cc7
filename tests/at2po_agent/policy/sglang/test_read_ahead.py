"""What is read before prompts are sent, and who waits for it."""

from __future__ import annotations

import asyncio

import pytest

from at2po_agent.policy.base import PolicyUnavailable
from at2po_agent.policy.sglang.read_ahead import ReadAhead

INSTRUCTIONS = tuple(range(20))
FIRST, SECOND = (*INSTRUCTIONS, *range(100, 130)), (*INSTRUCTIONS, *range(200, 230))
LONELY = tuple(range(300, 350))


class Reader:
    """A server's prefill that takes a while; keeps what it read and what was sent, in order."""

    def __init__(self, fails: bool = False) -> None:
        self.events: list[tuple[str, tuple[int, ...]]] = []
        self.fails = fails
        self.ahead = ReadAhead(self.read)

    async def read(self, ids: tuple[int, ...]) -> None:
        await asyncio.sleep(0.02)
        self.events.append(("read", ids))
        if self.fails:
            raise PolicyUnavailable("gone")

    async def send(self, prompt: tuple[int, ...], after: float = 0.0) -> None:
        await asyncio.sleep(after)
        await self.ahead.ready(prompt)
        self.events.append(("sent", prompt))

    @property
    def read_prompts(self) -> list[tuple[int, ...]]:
        return [ids for what, ids in self.events if what == "read"]


def test_shared_instructions_are_read_first_then_every_prompt_that_several_wait_for() -> None:
    async def main() -> Reader:
        reader = Reader()
        await asyncio.gather(*(reader.send(prompt) for prompt in (FIRST, SECOND, FIRST, SECOND, FIRST)))
        return reader

    reader = asyncio.run(main())
    assert reader.read_prompts[0] == INSTRUCTIONS
    assert sorted(reader.read_prompts[1:]) == [FIRST, SECOND]
    assert [what for what, _ in reader.events] == ["read"] * 3 + ["sent"] * 5


def test_a_prompt_that_shares_nothing_is_sent_at_once_and_never_read_twice() -> None:
    async def main() -> Reader:
        reader = Reader()
        await asyncio.gather(*(reader.send(prompt) for prompt in (LONELY, FIRST, FIRST)))
        return reader

    reader = asyncio.run(main())
    assert reader.read_prompts == [FIRST]
    assert reader.events[0] == ("sent", LONELY)


def test_a_prompt_alone_is_not_read_ahead_and_no_prompt_waits_for_another_s_reading() -> None:
    async def main() -> list[tuple[str, tuple[int, ...]]]:
        reader = Reader()
        await reader.send(LONELY)
        slow, begun = asyncio.Event(), []

        async def read(ids: tuple[int, ...]) -> None:
            begun.append(ids)
            if ids == FIRST:
                await slow.wait()

        reader.ahead = ReadAhead(read)
        turns = [asyncio.create_task(reader.send(prompt)) for prompt in (FIRST, FIRST, SECOND, SECOND)]
        await asyncio.gather(*turns[2:])
        assert begun == [INSTRUCTIONS, FIRST, SECOND]
        assert not turns[0].done() and not turns[1].done()
        slow.set()
        await asyncio.gather(*turns)
        return reader.events

    assert [prompt for _, prompt in asyncio.run(main())] == [LONELY, SECOND, SECOND, FIRST, FIRST]


def test_latecomers_wait_for_what_is_being_read_and_later_turns_for_nothing() -> None:
    async def main() -> Reader:
        reader = Reader()
        await asyncio.gather(reader.send(FIRST), reader.send(FIRST), reader.send(FIRST, after=0.01))
        await asyncio.wait_for(reader.send((*FIRST, 1, 2, 3)), 1)
        return reader

    reader = asyncio.run(main())
    assert reader.read_prompts == [FIRST]
    assert [what for what, _ in reader.events] == ["read", "sent", "sent", "sent", "sent"]


def test_after_the_cache_was_emptied_it_is_read_again() -> None:
    async def main() -> Reader:
        reader = Reader()
        for _ in range(2):
            await asyncio.gather(reader.send(FIRST), reader.send(FIRST))
            reader.ahead.forget()
        return reader

    assert asyncio.run(main()).read_prompts == [FIRST, FIRST]


def test_nobody_is_held_back_by_a_server_that_fails_or_by_somebody_who_left() -> None:
    async def main() -> Reader:
        reader = Reader(fails=True)
        leaving = asyncio.create_task(reader.send(FIRST))
        staying = [asyncio.create_task(reader.send(FIRST)) for _ in range(2)]
        await asyncio.sleep(0.005)
        leaving.cancel()
        await asyncio.gather(*staying)
        with pytest.raises(asyncio.CancelledError):
            await leaving
        return reader

    assert [what for what, _ in asyncio.run(main()).events] == ["read", "sent", "sent"]
