"""The local engine against transformers' own forward pass, token by token and without caches."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from at2po_agent.policy.base import Completion, PolicyError, Request, Sampling
from at2po_agent.policy.local.policy import LocalPolicy
from tests.helpers.real_tokenizers import byte_bpe
from tests.helpers.tiny_models import (
    ARCHITECTURES,
    CODEC,
    NEVER,
    assert_same,
    prompts,
    reference,
    requests,
    run,
    tiny,
)


@pytest.fixture
def policy() -> Iterator[LocalPolicy]:
    policy = LocalPolicy(tiny(), CODEC)
    yield policy
    policy.close()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_equals_the_plain_forward_pass(architecture: str, temperature: float) -> None:
    """Ragged prompts, stops and ends, a batch that is too small for all, and a second turn on the cached first."""
    model = tiny(architecture)
    sampling = Sampling(temperature, stop=("e", "th"))
    policy = LocalPolicy(model, CODEC, max_batch=5)
    try:
        first = requests(12)
        found = run(policy, first, sampling)
        assert_same(found, [reference(model, request, sampling) for request in first])
        assert {completion.finish for completion in found} >= {"stop", "length"}
        second = [
            Request((*request.prompt, *completion.ids, *prompt), 8, (1, i))
            for i, (request, completion, prompt) in enumerate(zip(first, found, prompts(12, seed=1), strict=True))
        ]
        assert_same(run(policy, second, sampling), [reference(model, request, sampling) for request in second])
    finally:
        policy.close()


def test_greedy_equals_transformers_generate(policy: LocalPolicy) -> None:
    request = requests(1, new=20)[0]
    ids = torch.tensor([request.prompt])
    expected = policy.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, pad_token_id=0, eos_token_id=None
    )
    found = run(policy, [request], Sampling(temperature=0, stop=()))[0]
    assert found.ids == tuple(expected[0, len(request.prompt) :].tolist())[: len(found.ids)]


def test_samples_the_softmax() -> None:
    """Frequencies over 4,000 keys of one prompt stand within five standard errors of the model's probabilities."""
    policy = LocalPolicy(tiny(), CODEC, max_batch=4000)
    prompt = prompts(1)[0]
    try:
        found = run(policy, [Request(prompt, 1, (i,)) for i in range(4000)], Sampling(0.8, stop=()))
        assert policy.stats.prefilled_tokens == len(prompt)
    finally:
        policy.close()
    with torch.no_grad():
        probability = torch.softmax(policy.model(torch.tensor([prompt])).logits[0, -1].double() / 0.8, -1)
    counts = torch.bincount(torch.tensor([c.ids[0] for c in found]), minlength=CODEC.vocab_size) / 4000
    error = (probability * (1 - probability) / 4000).sqrt()
    assert ((counts - probability).abs() <= 5 * error + 1 / 4000).all()


def test_result_does_not_depend_on_the_rest_of_the_batch(policy: LocalPolicy) -> None:
    many = requests(9, new=10)
    together = run(policy, many)
    policy.clear_cache()
    alone = [run(policy, [request])[0] for request in reversed(many)]
    assert_same(together, alone[::-1])


def test_top_logprobs_are_the_model_s_most_likely(policy: LocalPolicy) -> None:
    request = requests(1, new=4)[0]
    found = run(policy, [request], Sampling(0.5, stop=(), top_logprobs=3))[0]
    assert len(found.top_logprobs) == len(found.ids)
    for t, top in enumerate(found.top_logprobs):
        with torch.no_grad():
            logits = policy.model(torch.tensor([[*request.prompt, *found.ids[:t]]])).logits[0, -1]
        values, ids = torch.log_softmax(logits / 0.5, -1).topk(3)
        assert [i for i, _ in top] == ids.tolist()
        assert [v for _, v in top] == pytest.approx(values.tolist(), abs=1e-4)
    assert run(policy, [request])[0].top_logprobs == ()


def test_new_weights_are_used_after_publish() -> None:
    policy = LocalPolicy(tiny(), CODEC)
    asked = requests(3)
    try:
        old = run(policy, asked)
        with torch.no_grad():
            for parameter in policy.model.parameters():
                parameter.mul_(0.9)
        policy.publish(policy.model, 7)
        new = run(policy, asked)
        assert_same(new, [reference(policy.model, request, NEVER) for request in asked])
        with pytest.raises(PolicyError, match="module it was made with"):
            policy.publish(tiny(), 8)
    finally:
        policy.close()
    assert {c.version for c in old} == {0} and {c.version for c in new} == {7}
    assert [c.ids for c in old] != [c.ids for c in new]


def test_deterministic_repeats_are_equal_bit_for_bit() -> None:
    """The same calls in the same order, on fresh engines: ids, log-probabilities and all."""

    async def calls(policy: LocalPolicy) -> list[list[Completion]]:
        return await asyncio.gather(*(policy.generate(requests(7, seed=i), Sampling(stop=("e",))) for i in range(4)))

    outcomes = []
    for _ in range(2):
        policy = LocalPolicy(tiny(), CODEC, max_batch=5, deterministic=True)
        try:
            outcomes.append(asyncio.run(calls(policy)))
        finally:
            policy.close()
    assert outcomes[0] == outcomes[1]


def test_calls_join_a_running_batch() -> None:
    """A short call that arrives late overtakes a long one, and both are what they would have been alone."""
    policy = LocalPolicy(tiny(), CODEC, deterministic=False)
    long, short = Request(prompts(1)[0], 200, (0,)), requests(3, new=2, seed=5)

    async def both() -> tuple[list[str], list[Completion], list[Completion]]:
        order: list[str] = []

        async def one(name: str, asked: list[Request], sampling: Sampling) -> list[Completion]:
            found = await policy.generate(asked, sampling)
            order.append(name)
            return found

        first = asyncio.create_task(one("long", [long], NEVER))
        while policy.stats.generated_tokens < 3:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(one("short", short, NEVER))
        return order, await first, await second

    policy.codec.eos_ids, ends = frozenset(), policy.codec.eos_ids
    try:
        order, first, second = asyncio.run(both())
        assert order == ["short", "long"]
        assert_same(first, [reference(policy.model, long, NEVER)])
        assert_same(second, [reference(policy.model, request, NEVER) for request in short])
    finally:
        policy.codec.eos_ids = ends
        policy.close()


def test_calls_with_other_sampling_wait_their_turn() -> None:
    policy = LocalPolicy(tiny(), CODEC, deterministic=False)
    asked = requests(4)
    kinds = [Sampling(0.0, stop=()), Sampling(1.0, stop=()), Sampling(1.0, stop=("e",)), Sampling(0.0, stop=())]

    async def all_() -> list[list[Completion]]:
        return await asyncio.gather(*(policy.generate(asked, kind) for kind in kinds))

    try:
        for found, kind in zip(asyncio.run(all_()), kinds, strict=True):
            assert_same(found, [reference(policy.model, request, kind) for request in asked])
    finally:
        policy.close()


def test_cancelled_call_leaves_the_engine_to_others(policy: LocalPolicy) -> None:
    async def cancel() -> list[Completion]:
        task = asyncio.create_task(policy.generate([Request((1, 2), 200, (i,)) for i in range(3)], NEVER))
        while not policy.stats.generated_tokens:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await policy.generate(requests(2), NEVER)

    assert_same(asyncio.run(cancel()), [reference(policy.model, request, NEVER) for request in requests(2)])
    assert policy.stats.generated_tokens < 500


def test_a_bad_request_is_refused_before_anything_runs(policy: LocalPolicy) -> None:
    with pytest.raises(PolicyError, match="exceed the model's 256 positions"):
        run(policy, [*requests(2), Request((1,) * 250, 7, (0,))])
    with pytest.raises(PolicyError, match="not among the model's"):
        run(policy, [*requests(2), Request((1, CODEC.vocab_size), 5, (0,))])
    assert policy.stats.forwards == 0
    assert run(policy, []) == []


def test_last_position_can_be_used(policy: LocalPolicy) -> None:
    asked = [Request((1,) * 250, 6, (0,)), *requests(2)]
    assert_same(run(policy, asked), [reference(policy.model, request, NEVER) for request in asked])


def test_broken_weights_reach_every_caller_and_the_engine_recovers(policy: LocalPolicy) -> None:
    weight = policy.model.model.norm.weight
    with torch.no_grad():
        weight.fill_(math.nan)

    async def two() -> list[Any]:
        calls = (policy.generate(requests(2, seed=i), NEVER) for i in range(2))
        return await asyncio.gather(*calls, return_exceptions=True)

    assert [type(error) for error in asyncio.run(two())] == [PolicyError, PolicyError]
    with torch.no_grad():
        weight.fill_(1.0)
    assert_same(run(policy, requests(3)), [reference(policy.model, request, NEVER) for request in requests(3)])


def test_any_exception_of_the_worker_reaches_the_caller(policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise MemoryError("no memory for the batch")

    monkeypatch.setattr("at2po_agent.policy.local.batch.draw", broken)
    with pytest.raises(MemoryError, match="no memory"):
        run(policy, requests(2))


def test_cache_cannot_be_cleared_under_running_rows(policy: LocalPolicy) -> None:
    async def clear() -> None:
        task = asyncio.create_task(policy.generate([Request((1, 2), 200, (0,))], NEVER))
        while not policy.stats.generated_tokens:
            await asyncio.sleep(0.001)
        with pytest.raises(PolicyError, match="wait for `generate`"):
            policy.clear_cache()
        await task
        policy.clear_cache()

    asyncio.run(clear())


def test_close_ends_running_calls_and_the_thread(policy: LocalPolicy) -> None:
    async def close() -> None:
        task = asyncio.create_task(policy.generate([Request((1, 2), 200, (0,))], NEVER))
        while not policy.stats.generated_tokens:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(policy.close)
        with pytest.raises(PolicyError, match="closed"):
            await task
        with pytest.raises(PolicyError, match="closed"):
            await policy.generate(requests(1), NEVER)

    asyncio.run(close())
    assert not any(thread.name == "at2po-engine" and thread.is_alive() for thread in threading.enumerate())


@pytest.mark.fault("R10: a forked process with a used policy waits for ever")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_of_a_process_that_used_the_policy_is_refused_and_leaves_the_parents_alone(policy: LocalPolicy) -> None:
    sampled = run(policy, requests(2))

    def use_in_fork() -> None:
        for use in (lambda: run(policy, requests(2)), policy.clear_cache, lambda: policy.publish(policy.model, 1)):
            with pytest.raises(PolicyError, match=r"forked from process \d+.*spawn"):
                use()
        policy.close()

    process = multiprocessing.get_context("fork").Process(target=use_in_fork, daemon=True)
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert_same(run(policy, requests(2)), sampled)


def test_training_mode_and_dropout_do_not_reach_sampling() -> None:
    policy = LocalPolicy(tiny(attention_dropout=0.9), CODEC)
    policy.model.train()
    try:
        found = run(policy, requests(3))
        assert_same(found, [reference(policy.model, request, NEVER) for request in requests(3)])
    finally:
        policy.close()


def test_eager_attention_and_state_space_layers_are_refused() -> None:
    with pytest.raises(PolicyError, match="eager"):
        LocalPolicy(tiny(attn_implementation="eager"), CODEC)
    model = tiny()
    model.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(PolicyError, match="linear_attention"):
        LocalPolicy(model, CODEC)


def test_sliding_windows_bound_the_positions() -> None:
    policy = LocalPolicy(tiny(use_sliding_window=True, sliding_window=20, max_window_layers=1), CODEC)
    try:
        asked = [Request((1, 2, 3), 17, (0,))]
        assert_same(run(policy, asked), [reference(policy.model, asked[0], NEVER)])
        with pytest.raises(PolicyError, match="20 positions"):
            run(policy, [Request((1, 2, 3), 18, (0,))])
    finally:
        policy.close()


def test_from_pretrained_reads_a_model_directory(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="has no config"):
        LocalPolicy.from_pretrained(tmp_path)
    model = tiny()
    model.save_pretrained(tmp_path)
    byte_bpe().save_pretrained(tmp_path)
    policy = LocalPolicy.from_pretrained(tmp_path, max_batch=2)
    try:
        assert_same(run(policy, requests(3)), [reference(model, request, NEVER) for request in requests(3)])
    finally:
        policy.close()
