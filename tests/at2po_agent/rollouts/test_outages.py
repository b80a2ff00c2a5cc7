"""One outage is one line, however many paths it stops."""

import asyncio

import pytest

from at2po_agent.method.expansion import Chains
from at2po_agent.policy.base import PolicyUnavailable
from at2po_agent.rollouts.batch import rollout
from at2po_agent.rollouts.grow import Actor, Limits
from at2po_agent.rollouts.outages import Outages
from at2po_env import ToolEnv, ToolRules, ToolTask, ToolUnavailable
from search_backend.base import SearchError, SearchUnavailable
from tests.helpers.toys import BranchEveryFirstTurn, Bytes, Recites, Scripted, ToyEnv


class Clock:
    """Seconds that pass when a test, or an attempt in it, says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def flaky(failures: int, clock: Clock, step: float, error: type[Exception] = SearchUnavailable):
    left = iter(range(failures))

    async def attempt() -> str:
        if next(left, None) is not None:
            clock.now += step
            raise error("es:9200/wiki: no connection")
        return "found"

    return attempt


def outlast(outages: Outages, attempt, retries: int = 6, backend: str = "search"):
    return outages.outlast(backend, attempt, retries=retries, seconds=0.001)


def test_it_says_what_fails_why_when_it_tries_again_and_when_it_is_back():
    said, clock = [], Clock()
    assert asyncio.run(outlast(Outages(said.append, clock), flaky(3, clock, 7.0))) == "found"
    assert said == [
        "search does not answer: es:9200/wiki: no connection; next try in 0.001 s",
        "search is back after 14 s",
    ]


def test_a_long_outage_is_said_again_every_half_minute():
    said, clock = [], Clock()
    asyncio.run(outlast(Outages(said.append, clock), flaky(6, clock, 12.0)))
    assert [line.split(":")[0] for line in said] == [
        "search does not answer",
        "search has not answered for 36 s",
        "search is back after 60 s",
    ]


def test_what_is_over_before_patience_is_is_not_said():
    said, clock = [], Clock()
    outages, path, error = Outages(said.append, clock), object(), PolicyUnavailable("HTTP 429")
    for seconds in (0.0, 4.0):
        clock.now += seconds
        outages.failed("endpoint", path, error, 1.0, patience=5.0)
    outages.answered("endpoint")
    assert said == []
    for seconds in (0.0, 4.0, 2.0, 1.0):
        clock.now += seconds
        outages.failed("endpoint", path, error, 1.0, patience=5.0)
    outages.answered("endpoint")
    assert said == ["endpoint does not answer: HTTP 429; next try in 1 s", "endpoint is back after 7 s"]


def test_the_paths_that_an_outage_ended_are_counted_in_one_line():
    said, clock = [], Clock()
    outages = Outages(said.append, clock)

    async def all_of_them() -> list:
        attempts = [outlast(outages, flaky(9, clock, 0.0), retries=2) for _ in range(5)]
        return await asyncio.gather(*attempts, return_exceptions=True)

    assert [type(error) for error in asyncio.run(all_of_them())] == [SearchUnavailable] * 5
    assert [line.split(":")[0] for line in said] == ["search does not answer", "search did not come back"]
    assert "5 paths given up after 3 tries" in said[1] and "no connection" in said[1]


def test_search_and_engine_are_told_apart_and_what_fails_at_random_does_not_fill_the_screen():
    said, clock = [], Clock()
    outages = Outages(said.append, clock)
    for _ in range(20):
        asyncio.run(outlast(outages, flaky(1, clock, 0.1)))
    asyncio.run(outlast(outages, flaky(1, clock, 0.1, PolicyUnavailable), backend="engine"))
    assert [line.split(" ")[0] for line in said] == ["search", "search", "engine", "engine"]
    clock.now += 60
    asyncio.run(outlast(outages, flaky(1, clock, 0.1)))
    assert len(said) == 6


def test_only_what_may_come_back_is_tried_again():
    clock = Clock()
    with pytest.raises(SearchError, match="no connection"):
        asyncio.run(outlast(Outages(clock=clock), flaky(1, clock, 1.0, SearchError)))


def test_waits_double_up_to_a_quarter_of_a_minute():
    slept = []

    async def record(seconds: float) -> None:
        slept.append(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("at2po_agent.rollouts.outages.asyncio.sleep", record)
        asyncio.run(Outages().outlast("search", flaky(6, Clock(), 0.0), retries=6, seconds=2.0))
    assert slept == [2, 4, 8, 15, 15, 15]


def test_all_trees_of_a_batch_share_one_outage():
    said = []
    failing = iter([True] * 24)
    env = ToyEnv(fail=lambda action: next(failing, False))
    limits = Limits(retries=2, retry_seconds=0.01)
    actor = Actor(Scripted(), Bytes(), limits=limits, outages=Outages(said.append))
    questions = [f"question {i}" for i in range(6)]
    grown = asyncio.run(rollout(env, questions, actor, BranchEveryFirstTurn()))
    assert grown.lost_paths == 0 and len(grown.trees) == 6
    assert len(said) == 2 and said[0].startswith("search does not answer: the toy search is down")


def test_a_tool_whose_server_is_away_is_waited_for():
    failing, said = iter([True] * 5), []

    async def look(n: int) -> str:
        """Look."""
        if next(failing, False):
            raise ToolUnavailable("the server is gone")
        return str(n)

    tasks = [ToolTask("one", "One."), ToolTask("two", "Two.")]
    env = ToolEnv([look], tasks, lambda end: float(end.answer == "yes"), ToolRules.of("bare"))
    turns = ["<look>1</look>", "<look>2</look>", "<answer>yes</answer>"]
    actor = Actor(Recites(turns), Bytes(), limits=Limits(retries=5, retry_seconds=0.001), outages=Outages(said.append))
    grown = asyncio.run(rollout(env, ["one", "two"], actor, Chains(1)))
    assert (
        grown.lost_paths == 0 and [[tree[leaf].reward for leaf in tree.leaves] for tree in grown.trees] == [[1.0]] * 2
    )
    assert said[0].startswith("tools does not answer: the server is gone")


def test_a_pause_is_said_once_for_all_that_wait_and_again_when_it_grows():
    clock, lines = Clock(), []
    outages = Outages(lines.append, clock)
    for wait in (60.0, 60.0, 55.0):
        outages.paused("http://host", RuntimeError("busy"), wait)
        clock.now += 2
    assert lines == ["http://host asks for a pause of 60 s: busy"]
    outages.paused("http://host", RuntimeError("busy"), 3600.0)
    outages.paused("http://other", RuntimeError("busy"), 60.0)
    assert lines[1:] == ["http://host asks for a pause of 3,600 s: busy", "http://other asks for a pause of 60 s: busy"]
