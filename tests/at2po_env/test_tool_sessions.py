"""Episodes whose tools have a host that keeps a state between calls."""

from __future__ import annotations

import asyncio
import gc
import json

import pytest

from at2po_env import ForkError, ToolEnv, ToolRules, ToolTask, ToolUnavailable
from at2po_env.state import plain
from at2po_env.tool_sessions import EpisodeSessions
from tests.helpers.tool_host import Host


def env_of(host: Host) -> ToolEnv:
    rules = ToolRules.of("bare", on_malformed="continue")
    env = ToolEnv([host.tool()], [ToolTask("a", "A."), ToolTask("b", "B.")], lambda end: 0.0, rules)
    env.reset(options={"task_id": "a"})
    return env


def test_sessions_are_opened_once_and_closed_at_the_latest_with_their_owner() -> None:
    host, sessions = Host(), EpisodeSessions()
    assert sessions.at(host) is sessions.at(host) is host.sessions[0]
    sessions.close()
    assert sessions.at(host) is host.sessions[1] and [one.closed for one in host.sessions] == [True, False]
    del sessions
    gc.collect()
    assert all(one.closed for one in host.sessions)


def test_a_session_begins_with_the_first_call_and_ends_with_the_episode() -> None:
    host = Host()
    env = env_of(host)
    env.step("nothing")
    assert host.sessions == []
    env.step("<add>1</add>")
    assert [one.closed for one in host.sessions] == [False]
    env.step("<answer>1</answer>")
    assert [one.closed for one in host.sessions] == [True]
    for ends in (lambda: env.end("length_limit"), env.reset, env.close, lambda: env.begin("b")):
        env.reset()
        env.step("<add>1</add>")
        ends()
        assert all(one.closed for one in host.sessions)


@pytest.mark.parametrize("replays", [False, True])
def test_a_call_that_did_not_come_back_leaves_the_session_nowhere(replays: bool) -> None:
    host = Host(replays)
    env = env_of(host)
    env.step("<add>3</add>")

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(env.astep("<add>50</add>"), 0.05)

    asyncio.run(impatient())
    assert host.sessions[0].number == 53  # so it may have been taken
    if not replays:
        with pytest.raises(ToolUnavailable, match=r"^the host: the session of this episode is lost.*stateless=True"):
            env.step("<add>1</add>")
        return
    assert env.step("<add>1</add>")[0].split()[1] == "4"
    assert [one.closed for one in host.sessions] == [True, False]


@pytest.mark.parametrize("replays", [False, True])
def test_a_host_that_is_away_before_the_first_turn_costs_nothing(replays: bool) -> None:
    env = env_of(Host(replays))
    before = env.snapshot()
    with pytest.raises(ToolUnavailable, match="the host is away"):
        env.step("<add>99</add>")
    env.restore(before)
    assert env.snapshot() is before and env.step("<add>2</add>")[0].split()[1] == "2"


def test_forks_of_a_host_that_replays_are_what_they_were() -> None:
    host = Host(replays=True)
    env = env_of(host)
    for turn in ("<add>3</add>", "no call", "<add>4</add>"):
        env.step(turn)
    one, two = env.fork(2)
    assert len(host.sessions) == 1  # nothing is called before a fork goes on
    assert [one.step("<add>1</add>")[0].split()[1], two.step("<add>2</add>")[0].split()[1]] == ["8", "9"]
    assert plain(env.observation()).split()[1] == "7" and env.step("<add>5</add>")[0].split()[1] == "12"
    stored = json.loads(json.dumps(one.snapshot().to_json()))
    other = env_of(Host(replays=True))
    other.reset(options={"snapshot": stored})
    assert other.step("<add>1</add>")[0].split()[1] == "9"


def test_an_earlier_episode_of_a_host_that_does_not_replay_is_refused_and_the_current_one_goes_on() -> None:
    env = env_of(Host())
    env.step("<add>3</add>")
    earlier = env.snapshot()
    env.step("<add>4</add>")
    with pytest.raises(ForkError, match=r"^the host: an episode cannot be forked.*stateless=True.*how='replay'"):
        env.restore(earlier)
    assert env.step("<add>1</add>")[0].split()[1] == "8"
