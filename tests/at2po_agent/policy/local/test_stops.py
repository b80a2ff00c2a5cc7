"""Where turns end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from at2po_agent.policy.base import Sampling
from at2po_agent.policy.local.policy import LocalPolicy
from tests.helpers.tiny_models import CODEC, requests, run, tiny


@pytest.fixture
def policy() -> Iterator[LocalPolicy]:
    policy = LocalPolicy(tiny(), CODEC)
    yield policy
    policy.close()


def test_stop_may_span_tokens_and_its_last_token_stays_whole(policy: LocalPolicy) -> None:
    """A stop made of the end of one sampled token and the start of the next, which goes on after it."""
    texts = CODEC.token_texts()
    for request, free in zip(many := requests(60, new=20), run(policy, many), strict=True):
        for t in range(1, len(free.ids)):
            left, right = texts[free.ids[t - 1]], texts[free.ids[t]]
            stop = left[-1:] + right[:1]
            if (left + right).isascii() and len(right) > 1 and CODEC.decode_action(free.ids[:t]).count(stop) == 0:
                found = run(policy, [request], Sampling(stop=("never", stop)))[0]
                assert (found.ids, found.finish) == (free.ids[: t + 1], "stop")
                return
    pytest.fail("no token pair of that kind was sampled: use more requests")


def test_end_of_sequence_is_the_last_token(policy: LocalPolicy) -> None:
    finished = [c for c in run(policy, requests(200, new=60)) if c.finish == "eos"]
    assert finished
    for completion in finished:
        assert [i in CODEC.eos_ids for i in completion.ids] == [False] * (len(completion.ids) - 1) + [True]
