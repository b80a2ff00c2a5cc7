"""The policy that reads re-encoded histories."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from at2po_agent.policy.base import Completion, Request, Sampling
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.retokenised import Retokenised
from tests.helpers.real_tokenizers import byte_bpe, scaffold


class Records:
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        self.requests += requests
        return [Completion((1,), (-0.5,), "stop") for _ in requests]


def test_the_policy_is_asked_with_the_ids_of_the_text() -> None:
    codec, inner = Codec(byte_bpe()), Records()
    canonical = scaffold(codec, "the town of Brum")
    letters = scaffold(codec, *"the town of Brum")
    assert len(letters) > len(canonical)
    requests = [Request(letters, 9, (0,)), Request(canonical, 9, (1,))]
    done = asyncio.run(Retokenised(inner, codec).generate(requests, Sampling()))
    assert [completion.ids for completion in done] == [(1,), (1,)]
    assert [request.prompt for request in inner.requests] == [canonical, canonical]
    assert [(request.key, request.max_new_tokens) for request in inner.requests] == [((0,), 9), ((1,), 9)]


def test_a_history_that_grows_by_it_leaves_less_room() -> None:
    codec, inner = Codec(byte_bpe()), Records()
    broken = scaffold(codec, "é")[:1]  # half a character decodes to U+FFFD, which takes three bytes
    asyncio.run(Retokenised(inner, codec).generate([Request(broken, 9, (0,))], Sampling()))
    (request,) = inner.requests
    grown = len(request.prompt) - 1
    assert grown > 0 and request.max_new_tokens == 9 - grown
