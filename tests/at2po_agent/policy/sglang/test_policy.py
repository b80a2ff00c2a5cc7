"""SGLangPolicy over real HTTP: what is sent, what is made of the answers, and what happens when servers fail.

The servers here are doubles of the transport; ``test_sglang_service.py`` holds the same policy against a real SGLang.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from at2po_agent.policy.base import Completion, PolicyError, PolicyUnavailable, Request, Sampling
from at2po_agent.policy.sglang.check import KnownPrompt
from at2po_agent.policy.sglang.policy import SGLangPolicy
from tests.helpers.sglang_double import DROP, Double, V, serving
from tests.helpers.tiny_models import CODEC

PROMPT = (10, 11, 12)
PLAIN = Sampling(stop=())


@pytest.fixture
def double() -> Iterator[Double]:
    with serving(Double()) as double:
        yield double


@pytest.fixture
def policy(double: Double) -> Iterator[SGLangPolicy]:
    policy = SGLangPolicy([double.url], CODEC, timeout=5)
    yield policy
    policy.close()


def run(policy: SGLangPolicy, *requests: Request, sampling: Sampling = PLAIN) -> list[Completion]:
    return asyncio.run(policy.generate(requests, sampling))


def ask(path: int = 0, prompt: tuple[int, ...] = PROMPT, tree: int = 0, turn: int = 0) -> Request:
    return Request(prompt, 3, (7, tree, path, turn))


def refuse(status: int, body: Any) -> Any:
    return lambda request: web.json_response(body, status=status)


def drop(request: dict[str, Any]) -> Any:
    return DROP


def test_the_whole_softmax_is_asked_for_and_the_turn_is_what_the_server_sampled(
    double: Double, policy: SGLangPolicy
) -> None:
    sampling = Sampling(0.7, stop=("</search>",), top_logprobs=2)
    (found,) = run(policy, ask(), sampling=sampling)
    (sent,) = double.turns
    assert sent["input_ids"] == list(PROMPT)
    params = sent["sampling_params"]
    assert params["stop"] == ["</search>"] and params["stop_token_ids"] == sorted(CODEC.eos_ids)
    neutral = {"top_p": 1, "top_k": -1, "min_p": 0, "repetition_penalty": 1, "temperature": 0.7, "max_new_tokens": 3}
    assert {name: params[name] for name in neutral} == neutral
    assert "sampling_seed" not in params
    high, low = Double.logprobs(0.7)
    assert found == Completion(
        (13, 14, 15), (high,) * 3, "length", tuple(((i, high), (i + 1, low)) for i in (13, 14, 15)), version=0
    )


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ({"type": "stop", "matched": "x"}, "stop"),
        ({"type": "stop", "matched": 5}, "eos"),
        ({"type": "length", "length": 3}, "length"),
    ],
)
def test_finish(double: Double, policy: SGLangPolicy, reason: dict[str, Any], finish: str) -> None:
    double.misbehave.append(lambda body: web.json_response(double.answer(body, finish_reason=reason)))
    assert run(policy, ask())[0].finish == finish


def test_a_stop_string_that_the_server_overlooked_ends_the_turn(double: Double, policy: SGLangPolicy) -> None:
    ids = CODEC.observation(_text("ab!cd"))
    spelled = next(i for i in range(1, len(ids) + 1) if "b!" in CODEC.decode_action(ids[:i]))
    assert spelled < len(ids)

    def told(body: dict[str, Any]) -> web.Response:
        answer = double.answer(body)
        answer["output_ids"] = list(ids)
        answer["meta_info"]["output_token_logprobs"] = [[-0.5 - i, token, None] for i, token in enumerate(ids)]
        return web.json_response(answer)

    double.misbehave.append(told)
    found = run(policy, replace(ask(), max_new_tokens=len(ids)), sampling=Sampling(stop=("b!",)))[0]
    assert (found.ids, found.finish) == (ids[:spelled], "stop")
    assert found.logprobs == tuple(-0.5 - i for i in range(spelled))


def _text(text: str) -> Any:
    from at2po_env.state import Segment

    return (Segment(text, data=True),)


def test_ids_outside_the_vocabulary_are_never_sent(double: Double, policy: SGLangPolicy) -> None:
    before = len(double.requests)
    with pytest.raises(PolicyError, match=rf"request \(7, 0, 0, 0\).*{V} tokens"):
        run(policy, ask(1), ask(prompt=(3, V)))
    assert len(double.requests) == before


def test_calls_of_several_event_loops_and_threads_share_the_connections(policy: SGLangPolicy, double: Double) -> None:
    found: list[list[Completion]] = []
    threads = [threading.Thread(target=lambda i=i: found.append(run(policy, ask(i)))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(completions) for completions in found] == [1] * 4
    assert run(policy, ask())[0].ids == (13, 14, 15)


def test_more_turns_than_the_concurrency_wait_without_running_out_of_time(double: Double) -> None:
    running = most = 0

    async def take_a_while(_: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.3)
        running -= 1

    double.misbehave += [take_a_while] * 9
    policy = SGLangPolicy([double.url], CODEC, timeout=0.8, concurrency=3)
    try:
        assert len(run(policy, *(ask(path) for path in range(9)))) == 9
    finally:
        policy.close()
    assert most == 3 and len(double.turns) == 9


def test_a_rollout_on_the_loop_of_the_connections_does_not_change_threads(policy: SGLangPolicy) -> None:
    async def rollout() -> tuple[list[Completion], str]:
        return await policy.generate([ask()], Sampling()), threading.current_thread().name

    (completion,), thread = policy.run(rollout())
    assert (completion.ids, thread) == ((13, 14, 15), "at2po-sglang")


def test_a_turn_in_whose_middle_the_weights_changed_is_tagged(double: Double, policy: SGLangPolicy) -> None:
    double.version = "run-1"
    policy.expect(1, "run-1")
    spans = [{"version": "run-1", "start": 0, "end": 2}, {"version": "run-2", "start": 2, "end": 3}]
    double.misbehave.append(lambda body: web.json_response(double.answer(body, weight_versions=spans)))
    mixed, plain = run(policy, ask())[0], run(policy, ask())[0]
    assert (mixed.version, mixed.straddles) == (1, True)
    assert (plain.version, plain.straddles) == (1, False)
    assert policy.stats.straddling == 1


def test_keys_seed_the_sampling_where_the_server_can(double: Double) -> None:
    double.seeds = True
    policy = SGLangPolicy([double.url], CODEC)
    try:
        run(policy, ask(0), ask(1))
        run(policy, ask(0))
    finally:
        policy.close()
    seeds = {}
    for sent in double.turns:
        seeds.setdefault(sent["sampling_params"]["sampling_seed"], []).append(sent)
    assert sorted(map(len, seeds.values())) == [1, 2]
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_raw_logprobs_are_refused_at_the_start(double: Double) -> None:
    double.raw_logprobs = True
    with pytest.raises(PolicyError, match="SGLANG_RETURN_ORIGINAL_LOGPROB"):
        SGLangPolicy([double.url], CODEC)


def test_another_model_is_refused_at_the_start(double: Double) -> None:
    high, low = Double.logprobs(1.0)
    SGLangPolicy([double.url], CODEC, known=KnownPrompt((4,), ((5, high), (6, low)))).close()
    with pytest.raises(PolicyError, match=f"{double.url} serves another model"):
        SGLangPolicy([double.url], CODEC, known=KnownPrompt((4,), ((6, high), (5, low))))


def test_servers_with_different_weights_are_refused_and_absent_ones_are_not(double: Double) -> None:
    with serving(Double()) as other:
        other.version = "run-9"
        with pytest.raises(PolicyError, match=r"different weights.*'default'.*'run-9'"):
            SGLangPolicy([double.url, other.url], CODEC)
    policy = SGLangPolicy([double.url, other.url], CODEC)
    assert set(policy.troubles) == {other.url}
    assert run(policy, ask())[0].ids == (13, 14, 15)
    policy.close()
    with pytest.raises(PolicyUnavailable, match="cannot be reached"):
        SGLangPolicy([other.url], CODEC)
    with pytest.raises(PolicyError, match="at least one"):
        SGLangPolicy([], CODEC)


def test_what_prompts_share_is_counted_against_what_was_cached(double: Double, policy: SGLangPolicy) -> None:
    """Second turn of the sequence (10 … 15): its first five ids were sent or sampled, and their states kept."""
    run(policy, ask())
    double.misbehave.append(lambda body: web.json_response(double.answer(body, cached_tokens=4)))
    run(policy, ask(prompt=(10, 11, 12, 13, 14, 15, 99), turn=1))
    stats = policy.stats
    assert (stats.prompt_tokens, stats.prefilled_tokens, stats.generated_tokens) == (10, 6, 6)
    assert (stats.sharable_tokens, stats.shared_tokens) == (5, 4)
    policy.clear_cache()
    assert double.flushes == 1
    run(policy, ask())
    assert policy.stats.sharable_tokens == 5


def test_close_ends_running_calls_and_refuses_new_ones(double: Double) -> None:
    policy = SGLangPolicy([double.url], CODEC)
    double.misbehave.append(lambda body: asyncio.sleep(30))

    async def close() -> None:
        task = asyncio.create_task(policy.generate([ask()], PLAIN))
        while not double.turns:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(policy.close)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(close())
    assert len(double.aborted) == 1
    with pytest.raises(PolicyError, match="closed"):
        run(policy, ask())
    assert not any(thread.name == "at2po-sglang" for thread in threading.enumerate())
