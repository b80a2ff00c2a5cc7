"""Events of a streamed answer; what requests and errors mean is tested with the server that they are sent to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.policy.sglang import transport
from at2po_agent.policy.sglang.transport import _events
from search_backend.outside import Unusable


def events(parts: Sequence[bytes]) -> list[bytes]:
    async def arrive() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    async def collect() -> list[bytes]:
        return [event async for event in _events(arrive())]

    return asyncio.run(collect())


@given(
    said=st.lists(st.binary(max_size=6).filter(lambda one: b"\n" not in one and one != b"[DONE]"), max_size=6),
    cuts=st.lists(st.integers(0, 100)),
    ended=st.booleans(),
)
def test_events_are_the_same_however_they_arrive(said: list[bytes], cuts: list[int], ended: bool) -> None:
    sent = b"".join(b"data: " + one + b"\n\n" for one in said) + (b"data: [DONE]\n\ndata: late\n\n" if ended else b"")
    places = [0, *sorted(cut % (len(sent) + 1) for cut in cuts), len(sent)]
    assert events([sent[a:b] for a, b in pairwise(places)]) == said


def test_what_is_no_event_and_one_without_an_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unusable, match="no event but '<html>"):
        events([b"data: {}\n\n<html>\n\n"])
    monkeypatch.setattr(transport, "_MOST_BYTES", 100)
    assert events([b"data: " + b"x" * 90 + b"\n\n"] * 3) == [b"x" * 90] * 3
    with pytest.raises(Unusable, match="longer than 100 bytes"):
        events([b"data: " + b"x" * 50, b"x" * 50])
