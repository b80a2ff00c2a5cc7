"""SGLangPolicy on a real SGLang: the contract, ids as they cross the wire, the prefix cache, and whole rollouts."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from at2po_agent.method.expansion import EntropyGuided
from at2po_agent.policy.base import PolicyError, Request, Sampling
from at2po_agent.policy.local.policy import LocalPolicy
from at2po_agent.policy.sglang.check import known_prompt
from at2po_agent.policy.sglang.policy import SGLangPolicy
from at2po_agent.policy.sglang.server import Answer, Server, sampling_params
from at2po_agent.rollouts.batch import rollout
from at2po_agent.rollouts.evaluate import evaluate
from at2po_agent.rollouts.grow import Actor, Limits
from search_backend.background import BackgroundLoop
from tests.helpers.policy_contract import MICROWIKI_CODEC, MODEL, Engine, PolicyContract, microwiki
from tests.helpers.sglang_server import MICROWIKI

pytestmark = pytest.mark.service

LIMITS = Limits(max_turn_tokens=64, max_context_tokens=1000)


def post(url: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120):
        pass


def update(url: str, folder: Path, weight_version: str) -> None:
    """Paused, since an update is refused while the server still counts the last turns as running."""
    post(f"{url}/pause_generation", {"mode": "retract"})
    try:
        post(f"{url}/update_weights_from_disk", {"model_path": str(folder), "weight_version": weight_version})
    finally:
        post(f"{url}/continue_generation", {})


@pytest.fixture
def policy(sglang_url: str) -> Iterator[SGLangPolicy]:
    policy = SGLangPolicy([sglang_url], MICROWIKI_CODEC, known=known_prompt(MODEL, MICROWIKI_CODEC))
    yield policy
    policy.close()


class TestSGLang(PolicyContract):
    @pytest.fixture
    def engine(self, policy: SGLangPolicy, sglang_url: str) -> Engine:
        original = policy.weight_version

        def load(model: Any, folder: Path, version: int) -> None:
            if model is MODEL:
                update(sglang_url, MICROWIKI, original)
                policy.expect(version, original)
                return
            model.save_pretrained(folder)
            update(sglang_url, folder, f"test-{version}")
            policy.expect(version, f"test-{version}")

        return Engine(policy, load)


@contextmanager
def recording(target: str) -> Iterator[tuple[str, list[tuple[dict[str, Any], dict[str, Any]]]]]:
    """A proxy that keeps every turn asked of /generate, alone or with others, and its answer, as on the wire."""
    background, seen = BackgroundLoop("proxy"), []

    async def forward(request: web.Request) -> web.Response:
        sent = await request.read()
        url = target + request.path_qs
        kind = {"Content-Type": request.content_type}
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, url, data=sent, headers=kind) as r,
        ):
            told = await r.read()
            if request.path == "/generate":
                seen.extend(turns(json.loads(sent), told))
            return web.Response(body=told, status=r.status, content_type=r.content_type)

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = background.run(start())
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        background.run(runner.cleanup())
        background.close()


def turns(sent: dict[str, Any], told: bytes) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every turn of a request, with its answer."""
    if not sent.get("stream"):
        yield sent, json.loads(told)
        return
    events = [json.loads(event[6:]) for event in told.split(b"\n\n") if event and event != b"data: [DONE]"]
    done = {event["index"]: event for event in events if event["meta_info"]["finish_reason"]}
    for i in range(len(sent["rid"])):
        yield {name: value[i] for name, value in sent.items() if name != "stream"}, done[i]


def test_a_rollout_trains_on_the_ids_that_crossed_the_wire_and_reads_no_prefix_twice(sglang_url: str) -> None:
    env = microwiki()
    with recording(sglang_url) as (url, seen):
        policy = SGLangPolicy([url], MICROWIKI_CODEC)
        policy.clear_cache()
        try:
            grown = asyncio.run(
                rollout(
                    env,
                    [question.id for question in env.questions[:6]],
                    Actor(policy, MICROWIKI_CODEC, limits=LIMITS, deterministic=False),
                    EntropyGuided(chains=6, per_round=4, rounds=1),
                )
            )
        finally:
            policy.close()
    told = {
        (tuple(sent["input_ids"]), tuple(answer["output_ids"]), _logprobs(answer))
        for sent, answer in seen
        if sent.get("return_logprob")
    }
    for tree in grown.trees:
        for node in tree.nodes[1:]:
            assert (tree.prompt_ids(node.parent), node.action, node.logp) in told
    assert grown.lost_paths == 0
    assert sum(len(tree.leaves) for tree in grown.trees) == 60
    assert policy.stats.generated_tokens == grown.generated_tokens
    assert policy.stats.shared_tokens >= 0.95 * policy.stats.sharable_tokens, policy.stats


def _logprobs(answer: dict[str, Any]) -> tuple[float, ...]:
    return tuple(entry[0] for entry in answer["meta_info"]["output_token_logprobs"])


def test_greedy_evaluation_is_the_local_engine_s_episode_for_episode(policy: SGLangPolicy) -> None:
    env = microwiki()
    questions = [question.id for question in env.questions[:24]]
    local = LocalPolicy(MODEL, MICROWIKI_CODEC)
    try:
        actors = [Actor(one, MICROWIKI_CODEC, limits=LIMITS, deterministic=False) for one in (policy, local)]
        found, expected = (asyncio.run(evaluate(env, questions, actor.greedy())) for actor in actors)
    finally:
        local.close()
    assert found.episodes == expected.episodes and not found.errors


def test_turns_that_are_sent_together_are_those_sent_alone_and_one_that_is_refused_harms_no_other(
    sglang_url: str,
) -> None:
    env = microwiki()
    prompts = [MICROWIKI_CODEC.prompt(env.dialect.prompt(question.question)) for question in env.questions[:6]]

    async def ask(server: Server, prompt: tuple[int, ...], temperature: float = 0.0) -> Answer:
        asked = Request(prompt, 12, ())
        return await server.generate(prompt, sampling_params(asked, Sampling(temperature), (), None), top_logprobs=3)

    async def both(server: Server) -> tuple[list[Answer], list[Answer | BaseException]]:
        alone = [await ask(server, prompt) for prompt in prompts]
        several = [ask(server, prompt) for prompt in prompts] + [ask(server, prompts[0], temperature=-1.0)]
        return alone, await asyncio.gather(*several, return_exceptions=True)

    async def run() -> tuple[list[Answer], list[Answer | BaseException]]:
        async with aiohttp.ClientSession() as session:
            return await both(Server(sglang_url, session, 60))

    alone, (*together, refused) = asyncio.run(run())
    for one, other in zip(alone, together, strict=True):
        assert isinstance(other, Answer)
        assert (one.ids, one.finish, one.weight_versions) == (other.ids, other.finish, other.weight_versions)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert [[i for i, _ in likely] for likely in one.top_logprobs] == [
            [i for i, _ in likely] for likely in other.top_logprobs
        ]
    assert type(refused) is PolicyError and "temperature must be a non-negative finite number" in str(refused)
