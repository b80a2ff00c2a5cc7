"""SGLang's router before several servers: turns go through it, all else to the servers. Real in the last test."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from at2po_agent.method.expansion import EntropyGuided
from at2po_agent.policy.base import PolicyUnavailable, Request, Sampling
from at2po_agent.policy.sglang.policy import SGLangPolicy
from at2po_agent.rollouts.batch import rollout
from at2po_agent.rollouts.grow import Limits
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import load_config
from at2po_agent.training.session import open_session
from tests.at2po_agent.training.test_session import SMALL
from tests.helpers.policy_contract import microwiki
from tests.helpers.servers import free_port
from tests.helpers.sglang_double import Double, serving
from tests.helpers.sglang_server import SGLang
from tests.helpers.tiny_models import CODEC

SGLANG = [*SMALL, "engine.kind=sglang", "deterministic=false"]


class Front(Double):
    """A router: it hands turns on, and says nothing of the servers."""

    def __init__(self, *servers: Double) -> None:
        super().__init__()
        self.servers = servers

    def routes(self):
        return [route for route in super().routes() if route.path == "/generate"]

    def answer(self, body, **meta):
        return self.servers[len(self.requests) % len(self.servers)].answer(body, **meta)


@contextmanager
def routed(timeout: float = 30) -> Iterator[tuple[SGLangPolicy, Front]]:
    with ExitStack() as stack:
        front = Front(*(stack.enter_context(serving(Double())) for _ in range(2)))
        stack.enter_context(serving(front))
        policy = SGLangPolicy([server.url for server in front.servers], CODEC, router=front.url, timeout=timeout)
        yield stack.enter_context(closing(policy)), front


def ask(policy: SGLangPolicy, turns: int = 4):
    requests = [Request((5, 6, 7), 3, (0, 0, i, 0)) for i in range(turns)]
    return asyncio.run(policy.generate(requests, Sampling()))


def test_turns_go_through_the_router_alone() -> None:
    with routed() as (policy, front):
        found = ask(policy)
        assert [one.ids for one in found] == [(8, 9, 10)] * 4
        assert len(front.turns) == 4 and not front.batches  # it chooses a server for each
        assert not any(server.turns for server in front.servers)
        policy.clear_cache()
        assert [server.flushes for server in front.servers] == [1, 1]


@pytest.mark.slow
def test_a_turn_that_nobody_waits_for_is_aborted_on_the_servers() -> None:
    async def never(body):
        await asyncio.sleep(30)

    with routed(timeout=1) as (policy, front):
        front.misbehave = [never] * 8
        with pytest.raises(PolicyUnavailable, match="no answer"):
            ask(policy, 1)
    rids = {body["rid"] for body in front.turns}
    assert rids and all(set(server.aborted) == rids for server in front.servers)


def test_while_one_server_behind_it_has_other_weights_no_turn_is_taken() -> None:
    with routed() as (policy, front):
        for server in front.servers:
            server.version = "run-1"
        policy.expect(1, "run-1")
        assert {one.version for one in ask(policy)} == {1}
        front.servers[0].version = "default"  # started again
        with pytest.raises(PolicyUnavailable, match="'default"):
            ask(policy)
        assert set(policy.troubles) == {front.url}
        front.servers[0].version = "run-1"
        time.sleep(1.1)  # it is asked again after a second
        assert {one.version for one in ask(policy)} == {1}


def test_a_router_alone_is_not_enough_to_train(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"engine.router .*engine.urls"):
        open_session(load_config(None, [*SGLANG, "engine.router=http://127.0.0.1:9"]), tmp_path)


def registered(url: str) -> int:
    """Servers that a router has found well."""
    try:
        with urllib.request.urlopen(f"{url}/workers", timeout=5) as answer:
            return sum(worker["is_healthy"] for worker in json.load(answer)["workers"])
    except OSError:
        return 0


@contextmanager
def router(folder: Path, urls: list[str]) -> Iterator[str]:
    port = free_port()
    words = ["-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port", str(port), "--worker-urls", *urls]
    words += ["--prometheus-port", str(free_port()), "--worker-startup-timeout-secs", "300"]
    log = folder / "router.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, *words], stdout=out, stderr=subprocess.STDOUT)
    try:
        until, url = time.monotonic() + 300, f"http://127.0.0.1:{port}"
        while registered(url) < len(urls):  # it calls itself healthy, and takes turns, before it knows a server
            assert process.poll() is None and time.monotonic() < until, log.read_text()[-2000:]
            time.sleep(0.2)
        yield url
    finally:
        process.kill()
        process.wait()


@pytest.mark.service
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("two_sglangs")
def test_trees_grow_on_real_servers_behind_a_real_router(two_sglangs: tuple[SGLang, SGLang], tmp_path: Path) -> None:
    servers, env = two_sglangs, microwiki()
    urls = [server.url for server in servers]
    with router(tmp_path, urls) as url:
        overrides = [*SGLANG, f"engine.urls=[{','.join(urls)}]", f"engine.router={url}"]
        with closing(open_session(load_config(None, overrides), tmp_path / "engine")) as session:
            session.engine.publish(session.model, 1)
            grown = asyncio.run(
                rollout(
                    env,
                    [question.id for question in env.questions[:8]],
                    replace(session.actor, limits=Limits(max_turn_tokens=64, max_context_tokens=1000)),
                    EntropyGuided(chains=6, per_round=4, rounds=1),
                )
            )
    assert grown.lost_paths == 0 and [len(tree.leaves) for tree in grown.trees] == [10] * 8
    assert {node.version for tree in grown.trees for node in tree.nodes[1:]} == {1}
    assert all("#running-req" in server.log() for server in servers), os.linesep.join(s.log() for s in servers)
