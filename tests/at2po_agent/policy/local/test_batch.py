"""Which tokens are computed at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from at2po_agent.policy.base import Request, Sampling
from at2po_agent.policy.local.forward import LlamaForward, Pass
from at2po_agent.policy.local.kv import KVSlots
from at2po_agent.policy.local.policy import LocalPolicy
from tests.helpers.tiny_models import CODEC, NEVER, assert_same, prompts, reference, requests, run, tiny


@pytest.fixture
def policy() -> Iterator[LocalPolicy]:
    policy = LocalPolicy(tiny(), CODEC)
    yield policy
    policy.close()


def test_only_new_tokens_are_computed(policy: LocalPolicy) -> None:
    """Twins share one prompt, a second turn starts where the first ended, siblings reuse the prompt alone."""
    prompt = prompts(1)[0]
    first = run(policy, [Request(prompt, 6, (i,)) for i in range(4)])
    assert (policy.stats.prompt_tokens, policy.stats.prefilled_tokens) == (4 * len(prompt), len(prompt))
    assert policy.stats.generated_tokens == sum(len(c.ids) for c in first)
    before = policy.stats.prefilled_tokens
    run(policy, [Request((*prompt, *first[0].ids, 1, 2, 3), 6, (9,))])
    assert policy.stats.prefilled_tokens - before == 1 + 3  # the last sampled token was never read
    before = policy.stats.prefilled_tokens
    run(policy, [Request(prompt, 6, (10,))])
    assert policy.stats.prefilled_tokens - before == 1  # its logits are needed again
    policy.clear_cache()
    run(policy, [Request(prompt, 6, (11,))])
    assert policy.stats.prefilled_tokens - before == 1 + len(prompt)


def test_rows_that_sample_alike_are_computed_once_until_they_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many samples of few prompts, at a temperature where they part late: as each one alone, for fewer positions."""
    policy, computed = LocalPolicy(tiny(), CODEC), 0
    asked = [Request(prompt, 10, (i, j)) for i, prompt in enumerate(prompts(3)) for j in range(12)]
    forward = LlamaForward.__call__

    def counting(self: LlamaForward, kv: KVSlots, rows: Pass) -> torch.Tensor:
        nonlocal computed
        computed += len(rows.flat(rows.ids))
        return forward(self, kv, rows)

    monkeypatch.setattr(LlamaForward, "__call__", counting)
    sampling = Sampling(0.3, stop=("e",))
    try:
        found = run(policy, asked, sampling)
        assert_same(found, [reference(policy.model, request, sampling) for request in asked])
    finally:
        policy.close()
    contexts = {(*r.prompt, *c.ids[:t]) for r, c in zip(asked, found, strict=True) for t in range(1, len(c.ids))}
    assert computed == policy.stats.prefilled_tokens + len(contexts)
    assert len(contexts) < policy.stats.generated_tokens / 2


def test_shared_instructions_are_read_once(policy: LocalPolicy) -> None:
    instructions = prompts(1)[0] * 20
    asked = [Request((*instructions[:100], i, *range(i)), 3, (i,)) for i in range(6)]
    found = run(policy, asked)
    assert policy.stats.prefilled_tokens == 100 + sum(1 + i for i in range(6))
    assert_same(found, [reference(policy.model, request, NEVER) for request in asked])


def test_small_caches_change_nothing() -> None:
    asked, model = requests(6), tiny()
    results = []
    for cache_bytes in (0, 20_000, 2**30):
        policy = LocalPolicy(model, CODEC, cache_bytes=cache_bytes)
        try:
            first = run(policy, asked)
            again = [
                Request((*r.prompt, *c.ids, 5), 6, (2, i)) for i, (r, c) in enumerate(zip(asked, first, strict=True))
            ]
            results.append((policy.stats.prefilled_tokens, run(policy, again), policy.stats.prefilled_tokens))
        finally:
            policy.close()
    for _, found, _ in results[1:]:
        assert_same(found, results[0][1])
    none, some, all_ = (after - before for before, _, after in results)
    assert none > some > all_ == 2 * 6


def test_long_prompts_are_read_in_pieces_of_equal_length() -> None:
    policy, asked = LocalPolicy(tiny(), CODEC, prefill_tokens=50), requests(12, new=3)
    try:
        found = run(policy, asked)
    finally:
        policy.close()
    assert policy.stats.forwards > 5
    assert_same(found, [reference(policy.model, request, NEVER) for request in asked])
