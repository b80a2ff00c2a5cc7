"""Real SGLang servers that are killed, hang, refuse and come back while trees grow on them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from at2po_agent.method.expansion import EntropyGuided
from at2po_agent.method.groups import Rollout
from at2po_agent.policy.base import PolicyError, PolicyUnavailable, Request, Sampling
from at2po_agent.policy.sglang.policy import SGLangPolicy
from at2po_agent.rollouts.batch import rollout
from at2po_agent.rollouts.grow import Actor, Limits
from tests.helpers.policy_contract import MICROWIKI_CODEC, microwiki
from tests.helpers.sglang_server import MICROWIKI, SGLang
from tests.system.test_sglang_service import update

pytestmark = [pytest.mark.service, pytest.mark.timeout(900), pytest.mark.xdist_group("two_sglangs")]

TREES, LEAVES = 8, 10


@pytest.fixture
def servers(two_sglangs: tuple[SGLang, SGLang]) -> tuple[SGLang, SGLang]:
    return two_sglangs


@pytest.fixture
def policy(servers: tuple[SGLang, SGLang]) -> Iterator[SGLangPolicy]:
    policy = SGLangPolicy([server.url for server in servers], MICROWIKI_CODEC, timeout=10)
    yield policy
    policy.close()


def grow_while(policy: SGLangPolicy, happens: Callable[[], None]) -> Rollout:
    """A rollout in whose middle something happens: after some turns were sampled, and before most were."""
    env, begun = microwiki(), policy.stats.generated_tokens

    def wait() -> None:
        while policy.stats.generated_tokens - begun < 150:
            time.sleep(0.005)
        happens()

    thread = threading.Thread(target=wait)
    thread.start()
    limits = Limits(max_turn_tokens=64, max_context_tokens=1000, retries=20)
    actor = Actor(policy, MICROWIKI_CODEC, limits=limits, deterministic=False)
    grown = asyncio.run(
        rollout(
            env,
            [question.id for question in env.questions[:TREES]],
            actor,
            EntropyGuided(chains=6, per_round=4, rounds=1),
            key=(begun,),
        )
    )
    thread.join()
    return grown


def assert_complete(grown: Rollout) -> None:
    assert grown.lost_paths == 0 and not grown.dropped
    assert [len(tree.leaves) for tree in grown.trees] == [LEAVES] * TREES


def test_trees_of_a_killed_server_are_completed_on_the_other(
    servers: tuple[SGLang, SGLang], policy: SGLangPolicy
) -> None:
    first, _ = servers
    assert_complete(grow_while(policy, first.kill))
    assert "cannot be reached" in policy.troubles[first.url]
    first.start()


def test_trees_are_completed_when_the_only_server_is_back(servers: tuple[SGLang, SGLang]) -> None:
    first, _ = servers
    policy = SGLangPolicy([first.url], MICROWIKI_CODEC, timeout=10)

    def restart() -> None:
        first.kill()
        first.start()

    try:
        assert_complete(grow_while(policy, restart))
    finally:
        policy.close()


def test_a_server_that_hangs_is_left_alone_until_it_answers_again(
    servers: tuple[SGLang, SGLang], policy: SGLangPolicy
) -> None:
    first, _ = servers
    try:
        assert_complete(grow_while(policy, first.hang))
        assert "no answer" in policy.troubles[first.url]
    finally:
        first.go_on()


def test_a_server_that_comes_back_with_older_weights_is_not_used(
    servers: tuple[SGLang, SGLang], policy: SGLangPolicy
) -> None:
    first, second = servers
    for server in servers:
        update(server.url, MICROWIKI, "run-1")
    policy.expect(1, "run-1")

    def restart() -> None:
        first.kill()
        first.start()

    try:
        grown = grow_while(policy, restart)
        assert_complete(grown)
        assert {node.version for tree in grown.trees for node in tree.nodes[1:]} == {1}
        with pytest.raises(PolicyUnavailable):
            alone = SGLangPolicy([first.url], MICROWIKI_CODEC)
            try:
                alone.expect(1, "run-1")
                asyncio.run(alone.generate([Request((5, 6), 4, (0, 0, 0, 0))], Sampling(stop=())))
            finally:
                alone.close()
    finally:
        update(second.url, MICROWIKI, "default")


def test_what_a_server_refuses_is_said_in_its_words_and_it_lives_on(
    servers: tuple[SGLang, SGLang], policy: SGLangPolicy
) -> None:
    policy.positions = 10_000
    with pytest.raises(PolicyError, match=r"request \(9, 0, 0, 0\).*longer than the model's context length"):
        asyncio.run(policy.generate([Request((5,) * 2000, 4, (9, 0, 0, 0))], Sampling(stop=())))
    found = asyncio.run(policy.generate([Request((5, 6), 4, (9, 0, 0, 0))], Sampling(stop=())))
    assert len(found[0].ids) <= 4


@pytest.mark.slow
def test_a_server_that_reports_raw_logprobs_is_refused(own_sglang: Callable[..., SGLang]) -> None:
    raw = own_sglang(environment={"SGLANG_RETURN_ORIGINAL_LOGPROB": "1"})
    with pytest.raises(PolicyError, match="SGLANG_RETURN_ORIGINAL_LOGPROB"):
        SGLangPolicy([raw.url], MICROWIKI_CODEC)
