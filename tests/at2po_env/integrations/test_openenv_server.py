"""Against the real package: what goes over the wire, and who may send what."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request

import gymnasium
import pytest

pytest.importorskip("openenv")

import websockets
from openenv import GenericEnvClient
from openenv.core.env_server.types import Action

from at2po_env.integrations.openenv_client import TurnClient
from at2po_env.integrations.openenv_guard import Limits
from at2po_env.integrations.openenv_snapshots import Snapshots
from at2po_env.integrations.openenv_wire import TurnAction
from at2po_env.state import Question
from search_backend.base import SearchUnavailable
from tests.helpers.env_doubles import FakeSearch, make_env
from tests.helpers.openenv_servers import serving

pytestmark = pytest.mark.integration

SECRET, TITLE = "Xyzzyville", "Zorkmid"
SECRETS = (Question("s1", "Where does Tower A stand?", (SECRET, "Plughtown"), (TITLE,), {"plan": [SECRET]}),)
SEARCH, ANSWER = "<search>Tower</search>", "<answer>Paris</answer>"


def run(work):
    return asyncio.run(asyncio.wait_for(work, 60))


def get(url: str, data: dict | None = None, **headers: str):
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_an_episode_with_openenvs_own_client_is_the_one_in_process():
    env = make_env()
    first, _ = env.reset(options={"task_id": "q1"})
    steps = [env.step(SEARCH), env.step(ANSWER)]

    async def play(url):
        async with GenericEnvClient(url) as client:
            begun = await client.reset(split="all", index=0)
            return begun, [await client.step({"text": text}) for text in (SEARCH, ANSWER)], await client.state()

    with serving({"all": make_env()}) as (url, _):
        begun, took, state = run(play(url))
    assert (begun.observation["text"], begun.reward, begun.done) == (first, None, False)
    for result, (seen, reward, terminated, truncated, info) in zip(took, steps, strict=True):
        assert (result.observation["text"], result.reward, result.done) == (seen, reward, terminated or truncated)
        assert result.metadata == json.loads(json.dumps(info))
    assert (state["task_id"], state["split"], state["step_count"], state["ended"]) == ("q1", "all", 2, "answer")


def test_no_answer_is_in_any_message_before_the_episode_ends():
    async def play(url):
        async with TurnClient(url) as client:
            await client.reset(index=0, rendered=True)
            await client.step(TurnAction(text=SEARCH))
            state = await client.state()
            (fork,) = await client.fork(1)
            await fork.state()
            for wrong in ("0" * 64, state.snapshot[:-1], "", 7, {"digest": state.snapshot}):
                with pytest.raises(RuntimeError, match="Server error"):
                    await fork.reset(snapshot=wrong, rendered=True)
            with pytest.raises(RuntimeError, match="Server error"):
                await client.reset(index=5)

    with serving({"all": make_env(questions=SECRETS)}) as (url, wire):
        run(play(url))
        for path in ("schema", "metadata", "towers/splits", "health", "openapi.json", "state"):
            get(f"{url}/{path}")
        for path, data in (("tasks", {}), ("task", {"index": 0}), ("task_range", {"start": 0}), ("num_tasks", {})):
            get(f"{url}/towers/{path}", {"split": "all", **data})
        get(f"{url}/reset", {"index": 0})
        said = "".join(wire.sent)
        assert "Tower A stands in Paris" in said  # what was searched is there, so that the messages were kept
        assert not any(secret in said for secret in (SECRET, "Plughtown", TITLE))


def other_first(name: str) -> str:
    return ("1" if name[0] == "0" else "0") + name[1:]


@pytest.mark.parametrize("change", [other_first, lambda name: name[::-1], lambda name: name + "0"])
def test_a_changed_snapshot_is_refused_and_the_session_goes_on(change):
    async def play(url):
        async with TurnClient(url) as client:
            await client.reset(index=0)
            name = (await client.state()).snapshot
            with pytest.raises(RuntimeError, match="there is no snapshot"):
                await client.reset(snapshot=change(name))
            return (await client.step(TurnAction(text=ANSWER))).reward

    with serving({"all": make_env()}) as (url, _):
        assert run(play(url)) == 1.0


def test_forks_share_nothing_and_a_snapshot_outlives_its_session():
    async def play(url):
        async with TurnClient(url) as client:
            await client.reset(task_id="q1")
            await client.step(TurnAction(text=SEARCH))
            left, right = await client.fork(2)
            ended = await left.step(TurnAction(text=ANSWER))
            wrong = await right.step(TurnAction(text="<answer>Rome</answer>"))
            name, goes_on = (await client.state()).snapshot, await client.step(TurnAction(text=SEARCH))
        async with TurnClient(url) as another:
            again = await another.reset(snapshot=name)
            return ended, wrong, goes_on, again, await another.step(TurnAction(text=SEARCH))

    with serving({"all": make_env()}) as (url, _):
        ended, wrong, goes_on, again, step = run(play(url))
    assert (ended.reward, wrong.reward, goes_on.done) == (1.0, 0.0, False)
    assert again.metadata["turns"] == 1 and (step.observation, step.reward) == (goes_on.observation, goes_on.reward)


def test_the_action_has_one_required_field_so_that_bridges_pass_text():
    with serving({"all": make_env()}) as (url, _):
        assert get(f"{url}/schema")["action"]["required"] == ["text"]
    assert issubclass(TurnAction, Action)


def test_tasks_by_split_and_index():
    async def play(url):
        async with TurnClient(url) as client:
            begun = await client.reset(split="dev", index=2)
            with pytest.raises(RuntimeError, match="there is no split 'test'"):
                await client.reset(split="test")
            with pytest.raises(RuntimeError, match="index must be a whole number from 0 to 2"):
                await client.reset(index=-1)
            with pytest.raises(RuntimeError, match="one of index, task_id and snapshot"):
                await client.reset(index=1, task_id="q1")
            with pytest.raises(RuntimeError, match="got tsak_id"):
                await client.reset(tsak_id="q1")
            drawn = [(await client.reset(seed=seed)).metadata["task_id"] for seed in (1, 1, 2, 3, 4)]
            return begun, drawn

    with serving({"train": make_env(questions=SECRETS), "dev": make_env()}) as (url, _):
        assert [split["name"] for split in get(f"{url}/towers/splits")] == ["train", "dev"]
        assert get(f"{url}/towers/num_tasks", {"split": "dev"}) == {"num_tasks": 3}
        assert get(f"{url}/towers/task", {"split": "dev", "index": 1})["task"] == {"id": "q2", "index": 1}
        begun, drawn = run(play(url))
    assert begun.metadata["task_id"] == "q3" and set(drawn) <= {"q1", "q2", "q3"} and drawn[0] == drawn[1]


@pytest.mark.parametrize(
    "refused", [{"split": "other", "index": 9}, {"task_id": "no"}, {"snapshot": "no"}, {"split": "no"}]
)
def test_a_refused_reset_leaves_the_session_as_it_was(refused):
    async def play(url):
        async with TurnClient(url) as client:
            with pytest.raises(RuntimeError):
                await client.reset(**refused)
            empty = await client.state()
            await client.reset(task_id="q1", rendered=True)
            await client.step(TurnAction(text=SEARCH))
            with pytest.raises(RuntimeError):
                await client.reset(**refused)
            state = await client.state()
            return empty, state, await client.step(TurnAction(text=ANSWER))

    with serving({"all": make_env(), "other": make_env(questions=SECRETS)}) as (url, _):
        empty, state, result = run(play(url))
    assert (empty.task_id, empty.split, empty.snapshot, empty.step_count) == (None, None, None, 0)
    assert (state.task_id, state.split, state.step_count) == ("q1", "all", 1)
    assert result.reward == 1.0 and "snapshot" in result.metadata["at2po"]


def test_resets_without_a_seed_go_on_drawing():
    async def play(url):
        drawn = []
        for _ in range(2):
            async with TurnClient(url) as client:
                seeds = [5, *[None] * 9]
                drawn.append([(await client.reset(seed=seed)).metadata["task_id"] for seed in seeds])
        return drawn

    with serving({"all": make_env()}) as (url, _):
        first, second = run(play(url))
    assert first == second and len(set(first)) > 1


def test_an_outage_is_an_error_without_a_score_and_the_turn_can_be_taken_again():
    search = FakeSearch()

    async def play(url):
        async with TurnClient(url) as client:
            await client.reset(task_id="q1")
            search.failures = [SearchUnavailable("the search is down")]
            with pytest.raises(RuntimeError, match="unavailable: the search is down"):
                await client.step(TurnAction(text=SEARCH))
            return await client.state(), await client.step(TurnAction(text=SEARCH))

    with serving({"all": make_env(search)}) as (url, wire):
        state, result = run(play(url))
    assert (state.step_count, state.ended, result.metadata["turns"]) == (0, None, 1)
    said = [json.loads(json.loads(message)["text"]) for message in wire.sent if "text" in json.loads(message)]
    outage = [message for message in said if message["type"] == "error"]
    assert len(outage) == 1 and "unavailable: the search is down" in json.dumps(outage)
    assert len(said) == 4 and not any('"em"' in json.dumps(message) for message in said)


def test_sessions_that_clients_leave_do_not_use_up_the_capacity():
    async def play(url):
        left = [TurnClient(url) for _ in range(3)]
        for client in left:
            await client.reset(index=0)
        await asyncio.sleep(0.6)  # all three are silent
        async with TurnClient(url) as client:
            begun = await client.reset(index=0)
        with pytest.raises(RuntimeError, match="no episode has begun on this connection"):
            await left[0].step(TurnAction(text=SEARCH))
        for one in left:
            await one.close()
        return begun

    before = threading.active_count()
    with serving({"all": make_env()}, sessions=3, limits=Limits(idle_seconds=0.3)) as (url, _):
        assert run(play(url)).metadata["turns"] == 0
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before


def test_clients_that_are_killed_do_not_use_up_the_capacity():
    async def reset(url):
        socket = await websockets.connect(f"{url.replace('http', 'ws')}/ws")
        await socket.send(json.dumps({"type": "reset", "data": {"index": 0}}))
        return socket, json.loads(await socket.recv())

    async def play(url):
        for _ in range(10):
            socket, said = await reset(url)
            while said["type"] == "error":  # the server has not noticed the last end yet
                assert "CAPACITY_REACHED" in json.dumps(said)
                socket, said = await reset(url)
            socket.transport.abort()

    with serving({"all": make_env()}, sessions=2) as (url, _):
        run(play(url))


def test_a_full_server_says_so():
    async def play(url):
        async with TurnClient(url) as first, TurnClient(url) as second:
            await first.reset(index=0)
            with pytest.raises(RuntimeError, match="CAPACITY_REACHED"):
                await second.reset(index=0)

    with serving({"all": make_env()}, sessions=1) as (url, _):
        run(play(url))


def test_the_token_is_asked_for_everywhere():
    limits = Limits("a-long-token", max_bytes=2000)
    right = {"Authorization": "Bearer a-long-token"}

    async def play(url):
        with pytest.raises(ConnectionError, match="403"):
            await TurnClient(url).connect()
        async with TurnClient(url, headers=right) as client:
            return await client.reset(index=0)

    with serving({"all": make_env()}, limits=limits) as (url, _):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(f"{url}/schema")
        assert "action" in get(f"{url}/schema", **right)
        with pytest.raises(urllib.error.HTTPError, match="413"):
            get(f"{url}/reset", {"task_id": "x" * 3000}, **right)
        assert run(play(url)).metadata["task_id"] == "q1"


def test_expired_snapshots_are_refused():
    now = [0.0]

    async def play(url):
        async with TurnClient(url) as client:
            await client.reset(index=0)
            name = (await client.state()).snapshot
            now[0] = 11.0
            with pytest.raises(RuntimeError, match="snapshot: there is no snapshot"):
                await client.reset(snapshot=name)

    with serving({"all": make_env()}, snapshots=Snapshots(seconds=10, clock=lambda: now[0])) as (url, _):
        run(play(url))


@pytest.mark.parametrize("env_id", ["AT2PO-Maze-v0", "AT2PO-MicroSQL-v0", "AT2PO-MicroWiki-v0"])
def test_every_task_family_is_served(env_id):
    env = gymnasium.make(f"at2po_env:{env_id}", split="train").unwrapped
    seen, info = env.reset(options={"task_id": env.tasks[1]})

    async def play(url):
        async with TurnClient(url) as client:
            begun = await client.reset(index=1, rendered=True)
            return begun, await client.step(TurnAction(text="", end="length_limit"))

    with serving({"train": env}) as (url, _):
        begun, ended = run(play(url))
    assert begun.observation.text == seen and begun.metadata["task_id"] == info["task_id"]
    assert ended.done and ended.metadata["ended"] == "length_limit"
    env.close()
