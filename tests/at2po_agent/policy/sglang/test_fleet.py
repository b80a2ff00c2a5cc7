"""Where the turns of trees go, and where they go instead when servers are away or have other weights."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import pytest
from aiohttp import web

from at2po_agent.policy.base import PolicyError, PolicyUnavailable, Request, Sampling
from at2po_agent.policy.sglang.fleet import Fleet, Homes, tree_of
from at2po_agent.policy.sglang.server import Answer, Server, sampling_params
from tests.helpers.sglang_double import DROP, Double, serving

T = TypeVar("T")
PARAMS = sampling_params(Request((1,), 3, ()), Sampling(stop=()), (), None)


@pytest.fixture
def doubles() -> Iterator[list[Double]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(Double())) for _ in range(2)]


def ask(tree: int, path: int = 0, turn: int = 0) -> Request:
    return Request((10, tree), 3, (0, 5, tree, path, turn))


async def well(server: Server) -> None:
    """A check that every server passes."""


def with_fleet(
    doubles: list[Double],
    work: Callable[[Fleet], Awaitable[T]],
    check: Callable[[Server], Awaitable[None]] = well,
    weights: str = "default",
) -> T:
    async def run() -> T:
        async with aiohttp.ClientSession() as session:
            fleet = Fleet([Server(double.url, session, 5) for double in doubles], check)
            fleet.expect(weights)
            return await work(fleet)

    return asyncio.run(run())


async def sample(fleet: Fleet, *requests: Request) -> list[Answer]:
    return list(await asyncio.gather(*(fleet.generate(request, PARAMS, 0) for request in requests)))


def drop(body: dict[str, Any]) -> Any:
    return DROP


def aborted(double: Double) -> Callable[[dict[str, Any]], web.Response]:
    reason = {"type": "abort", "message": "weights are updated"}
    return lambda body: web.json_response(double.answer(body, finish_reason=reason))


@dataclass(eq=False)
class Place:
    running: int = 0


def test_a_tree_is_known_by_its_key_whatever_the_path_and_turn() -> None:
    assert tree_of(ask(3, 0, 0)) == tree_of(ask(3, 7, 4)) != tree_of(ask(4, 0, 0))
    assert tree_of(Request((1,), 1, (9,))) == (9,)


def test_a_tree_begins_where_least_is_running_stays_there_and_moves_only_if_it_must() -> None:
    busy, idle = Place(5), Place(2)
    homes: Homes[Place] = Homes()
    assert homes.choose(ask(0, 0, 0), (busy, idle)) is idle
    idle.running = 50
    assert homes.choose(ask(0, 3, 2), (busy, idle)) is idle
    assert homes.choose(ask(1, 0, 0), (busy, idle)) is busy
    assert homes.choose(ask(0, 3, 3), (busy,)) is busy
    assert homes.choose(ask(0, 3, 4), (busy, idle)) is busy


def test_trees_stay_where_their_prefix_is_and_are_spread(doubles: list[Double]) -> None:
    for double in doubles:
        double.misbehave += [lambda body: asyncio.sleep(0.05)] * 8

    async def grow(fleet: Fleet) -> None:
        await sample(fleet, *(ask(tree, path) for tree in range(4) for path in range(2)))
        await sample(fleet, *(ask(tree, path, turn=1) for tree in range(4) for path in range(2, 4)))

    with_fleet(doubles, grow)
    trees = [{sent["input_ids"][1] for sent in double.turns} for double in doubles]
    assert trees[0] | trees[1] == set(range(4)) and not trees[0] & trees[1]
    assert len(trees[0]) == 2


@pytest.mark.parametrize("failure", [lambda body: web.json_response({}, status=503), drop], ids=["503", "dropped"])
def test_a_short_failure_is_only_tried_again(doubles: list[Double], failure: Any) -> None:
    double = doubles[0]
    double.misbehave += [failure]

    async def work(fleet: Fleet) -> None:
        assert (await sample(fleet, ask(12)))[0].ids == (13, 14, 15)
        assert [server.trouble for server in fleet.servers] == [None]

    with_fleet([double], work)
    assert len(double.turns) == 2


def test_an_aborted_turn_is_sampled_again_from_its_prompt(doubles: list[Double]) -> None:
    double = doubles[0]
    double.misbehave.append(aborted(double))
    assert with_fleet([double], lambda fleet: sample(fleet, ask(12)))[0].finish == "length"
    assert [sent["input_ids"] for sent in double.turns] == [[10, 12]] * 2
    double.misbehave += [aborted(double)] * 9
    with pytest.raises(PolicyUnavailable, match="aborted the turn: weights are updated"):
        with_fleet([double], lambda fleet: sample(fleet, ask(12)))


def test_a_dead_server_s_trees_move_and_come_home_never_to_older_weights(doubles: list[Double]) -> None:
    dead, other = doubles
    dead.version = other.version = "run-1"
    dead.misbehave += [drop] * 50

    async def work(fleet: Fleet) -> None:
        first = fleet.servers[0]
        answers = await sample(fleet, *(ask(tree) for tree in range(6)))
        assert [answer.weight_versions for answer in answers] == [("run-1",)] * 6
        assert fleet.servers[1].trouble is None
        dead.misbehave.clear()
        dead.version = "default"  # started again, with the weights that it began with
        await asyncio.sleep(1.1)  # it is asked again after a second
        fresh = [ask(tree) for tree in range(6, 12)]
        assert {answer.weight_versions for answer in await sample(fleet, *fresh)} == {("run-1",)}
        await asyncio.sleep(0.2)
        assert first.trouble == f"{dead.url} has the weights 'default', not 'run-1'"
        refused = len(dead.turns)
        await sample(fleet, *fresh)
        assert len(dead.turns) == refused
        dead.version = other.version = "run-2"
        fleet.expect("run-2")
        await sample(fleet, *(ask(tree) for tree in range(3)))
        await asyncio.sleep(0.2)
        assert first.trouble is None

    with_fleet(doubles, work, weights="run-1")


def test_no_server_left_is_said_with_the_reason_of_each(doubles: list[Double]) -> None:
    with pytest.raises(PolicyUnavailable, match="has the weights 'default', not 'run-1'"):
        with_fleet(doubles, lambda fleet: sample(fleet, ask(0)), weights="run-1")
    with pytest.raises(PolicyError, match="at least one"):
        Fleet([], well)


def test_a_server_that_comes_back_is_used_only_if_it_passes_the_check(doubles: list[Double]) -> None:
    async def refuse(server: Server) -> None:
        raise PolicyError(f"{server.url} serves another model")

    async def work(fleet: Fleet) -> None:
        fleet.servers[0].trouble = "cannot be reached"  # and is back now
        await sample(fleet, *(ask(tree) for tree in range(4)))
        await asyncio.sleep(0.2)
        assert fleet.servers[0].trouble == f"{doubles[0].url} serves another model"

    with_fleet(doubles, work, refuse)
    assert not doubles[0].turns and len(doubles[1].turns) == 4
