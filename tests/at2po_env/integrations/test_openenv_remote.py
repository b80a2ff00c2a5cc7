"""Against the real package: a remote environment is grown, forked and retried as one in process."""

from __future__ import annotations

import asyncio
import dataclasses
import pickle
import time

import gymnasium
import pytest

pytest.importorskip("openenv")

import at2po_agent as at2po
from at2po_agent.method.expansion import Chains
from at2po_agent.rollouts.grow import Actor, Limits, grow
from at2po_env.core import ForkableEnv
from at2po_env.errors import SnapshotError, ToolUnavailable
from at2po_env.integrations.openenv_guard import Limits as ServerLimits
from at2po_env.integrations.openenv_remote import RemoteEnv
from at2po_env.integrations.openenv_snapshots import Snapshots
from search_backend.base import SearchUnavailable
from tests.helpers.env_doubles import FakeSearch, make_env
from tests.helpers.openenv_servers import serving
from tests.helpers.toys import Bytes, Recites

pytestmark = pytest.mark.integration

SEARCH, ANSWER = "<search>Tower</search>", "<answer>Paris</answer>"


def without_snapshots(tree):
    return [dataclasses.asdict(dataclasses.replace(tree[node], snapshot=None)) for node in range(len(tree))]


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_tree_grown_against_a_server_equals_the_local_one(deterministic):
    env = gymnasium.make("at2po_env:AT2PO-MicroWiki-v0", split="train", k=1, dialect="bare", max_searches=4).unwrapped
    policy = at2po.LocalPolicy.from_pretrained("builtin:microwiki")
    expansion = at2po.build("at2po", expansion={"chains": 4, "per_round": 2, "rounds": 2}).expansion
    actor = at2po.Actor(policy, policy.codec, deterministic=deterministic)

    def grown(where: ForkableEnv, task_id: str):
        # What the policy has read before would decide the last bits of what it computes.
        policy.clear_cache()
        where.reset(options={"task_id": task_id})
        return at2po.run(grow(where, actor, expansion, key=(3,), question_id=task_id))

    with serving({"train": env.clone()}) as (url, _):
        remote = RemoteEnv(url)
        for task_id in env.tasks[:2]:
            here, there = grown(env, task_id), grown(remote, task_id)
            assert len(here.leaves) == 8 and here.prompt_ids(0) == there.prompt_ids(0)
            if deterministic:
                assert without_snapshots(here) == without_snapshots(there)
            assert len(there.leaves) == 8
        remote.close()
    policy.close()
    env.close()


@pytest.mark.parametrize("dialect", ["tags", "chat", "native", "search_r1"])
def test_observations_keep_their_segments_kinds_and_tools(dialect):
    env = make_env(dialect=dialect)
    turns = [env.dialect.write(env.dialect.parse(SEARCH)) if dialect != "native" else SEARCH, "<answer>x</answer>"]
    with serving({"all": make_env(dialect=dialect)}) as (url, _):
        remote = RemoteEnv(url)
        for task_id in env.tasks:
            assert remote.reset(options={"task_id": task_id}) == env.reset(options={"task_id": task_id})
            for turn in [None, *turns]:
                if turn is not None:
                    here, there = env.step(turn), remote.step(turn)
                    assert there == here
                    if here[2] or here[3]:
                        break
                here, there = env.observation(), remote.observation()
                assert there == here and type(there) is type(here) and remote.stop == env.stop
                assert getattr(there, "tools", None) == getattr(here, "tools", None)
        remote.close()


def test_forks_continue_alike_and_share_nothing():
    with serving({"all": make_env()}) as (url, _):
        env = RemoteEnv(url)
        env.reset(options={"task_id": "q1"})
        env.step(SEARCH)
        here = env.snapshot()
        left, right = env.fork(2)
        assert left.step(ANSWER)[1] == 1.0 and right.step("<answer>Rome</answer>")[1] == 0.0
        assert env.snapshot() == here and env.step(ANSWER)[1] == 1.0
        carried = pickle.loads(pickle.dumps(here))
        assert carried == here and hash(carried) == hash(here)
        env.reset(options={"snapshot": carried})
        assert env.step(SEARCH)[4]["turns"] == 2
        assert env.end("length_limit")[2:4] == (False, True)
        env.close()


def test_a_snapshot_that_the_server_does_not_know_is_refused():
    with serving({"all": make_env()}) as (url, _), serving({"all": make_env()}) as (other, _):
        env, elsewhere = RemoteEnv(url), RemoteEnv(other)
        env.reset(options={"task_id": "q1"})
        elsewhere.restore(env.snapshot())
        with pytest.raises(SnapshotError, match="there is no snapshot"):
            elsewhere.step(SEARCH)
        env.close()
        elsewhere.close()


def test_a_step_asks_once_in_an_outage():
    search = FakeSearch()
    with serving({"all": make_env(search)}) as (url, _):
        env = RemoteEnv(url)
        env.reset(options={"task_id": "q1"})
        search.failures = [SearchUnavailable("the search is down")] * 3
        with pytest.raises(ToolUnavailable, match="the search is down"):
            env.step(SEARCH)
        assert len(search.failures) == 2
        env.close()


def test_a_session_that_was_let_go_begins_again_at_the_snapshot():
    with serving({"all": make_env()}, limits=ServerLimits(idle_seconds=0.2)) as (url, wire):
        env = RemoteEnv(url)
        env.reset(options={"task_id": "q1"})
        assert env.step(SEARCH)[4]["turns"] == 1
        deadline = time.monotonic() + 10
        while not any("websocket.close" in message for message in wire.sent):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert env.step(SEARCH)[4]["turns"] == 2
        assert env.step(ANSWER)[1] == 1.0
        sessions = [message for message in wire.sent if "websocket.accept" in message]
        env.close()
    assert len(sessions) > 1


def test_an_outage_is_outlasted_by_grow_and_never_scored():
    search = FakeSearch()
    search.failures = [SearchUnavailable("the search is down")] * 3
    actor = Actor(Recites([SEARCH, ANSWER]), Bytes(), limits=Limits(retries=5, retry_seconds=0.01))
    chains = Chains(1)
    with serving({"all": make_env(search)}) as (url, _):
        env = RemoteEnv(url)
        env.reset(options={"task_id": "q1"})
        tree = asyncio.run(grow(env, actor, chains))
        assert [tree[leaf].reward for leaf in tree.leaves] == [1.0] and search.failures == []
        search.failures = [SearchUnavailable("the search is down")] * 100
        tree = asyncio.run(grow(env, actor, chains))
        assert len(tree.leaves) == 0
        env.close()


def test_a_server_that_is_gone_is_unavailable():
    snapshots = Snapshots()
    with serving({"all": make_env()}, snapshots=snapshots) as (url, _):
        env = RemoteEnv(url, timeout=5)
        env.reset(options={"task_id": "q1"})
    with pytest.raises(ToolUnavailable):
        env.step(SEARCH)
    env.close()
    with pytest.raises(ToolUnavailable, match="closed"):
        env.step(SEARCH)
