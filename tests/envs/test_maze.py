from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from at2po_env.scripts import play
from at2po_env.state import plain
from at2po_env.testing import TaskContract
from envs.maze import MazeEnv
from envs.maze_players import Traveller

SOLVED = [
    "<go>smith</go>",
    "<take></take>",
    "<go>back</go>",
    "<unlock></unlock>",
    "<go>open</go>",
    "<go>church</go>",
    "<go>church</go>",
    "<go>ferry</go>",
]


def make(**kwargs: Any) -> MazeEnv:
    env = MazeEnv("test", **kwargs)
    env.reset(options={"task_id": "test-3"})
    return env


def seen(env: MazeEnv, action: str) -> str:
    return env.step(action)[0].removeprefix("<result> ").removesuffix(" </result>")


SMALL = MazeEnv("dev", rooms=8)


class TestMaze(TaskContract):
    def make_env(self) -> MazeEnv:
        return SMALL.clone()

    def actions(self) -> list[str]:
        return ["<go>nowhere</go>", "I wonder <take></take>", "<leave></leave>", "<answer>no</answer>"]

    def other_actions(self) -> list[str]:
        return ["<unlock></unlock>", "no action"]


def test_gymnasium_makes_it_and_finds_nothing_wrong() -> None:
    check_env(gymnasium.make("at2po_env:AT2PO-Maze-v0", rooms=13).unwrapped, skip_render_check=True)
    assert gymnasium.make("AT2PO-Maze-v0", split="dev", max_turns=20).unwrapped.rules.max_turns == 20


def test_a_maze_is_walked_from_the_start_to_the_way_out() -> None:
    env = make()
    assert plain(env.observation()) == "Find the way out of the maze. Yozel: gate, mine, smith\n"
    assert [seen(env, action) for action in SOLVED] == [
        "Kemir, key: back",
        "taken",
        "Yozel: gate, mine, smith",
        "open",
        "Savak: back, church, pond",
        "Yoron: back, church, pond",
        "Ratim: back, barn, ferry",
        "Dukul, out: back",
    ]
    _, reward, terminated, _, info = env.step("<leave></leave>")
    assert (reward, terminated, info["ended"], info["success"], info["turns"]) == (1.0, True, "done", 1.0, 9)
    assert env.task("test-3").group == " 9 turns"


def test_nothing_is_rewarded_before_the_end() -> None:
    env = make()
    assert [env.step(action)[1] for action in SOLVED] == [0.0] * len(SOLVED)


@pytest.mark.parametrize(
    ("action", "observation"),
    [
        ("<go>gate</go>", "error: go: ValueError: locked"),
        ("<go>church</go>", "error: go: ValueError: no such way"),
        ("<go>Savak</go>", "error: go: ValueError: no such way"),
        ("<go></go>", "error: go: ValueError: no such way"),
        ('<go>{"way": ["smith"]}</go>', "error: go: way: Input should be a valid string"),
        ("<take></take>", "error: take: ValueError: no key"),
        ("<unlock></unlock>", "error: unlock: ValueError: no key"),
        ("<leave></leave>", "error: leave: ValueError: no way out"),
        ('<leave>{"state": {"at": "Dukul"}}</leave>', "error: leave: state: Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_done_says_so_and_changes_nothing(action: str, observation: str) -> None:
    env = make()
    assert seen(env, action) == observation
    assert [env.step(each)[1] for each in (*SOLVED, "<leave></leave>")][-1] == 1.0


def test_a_gate_needs_its_key_and_a_key_is_had_once() -> None:
    env = make(max_turns=30)
    for action in SOLVED[:2]:
        env.step(action)
    assert seen(env, "<take></take>") == "error: take: ValueError: no key"
    assert seen(env, "<unlock></unlock>") == "error: unlock: ValueError: no gate"
    for action in SOLVED[2:4]:
        env.step(action)
    assert seen(env, "<unlock></unlock>") == "error: unlock: ValueError: no gate"
    env.step("<go>open</go>")
    assert seen(env, "<go>back</go>") == "Yozel: mine, open, smith"


def test_an_answer_a_malformed_turn_and_too_many_turns_end_without_a_reward() -> None:
    for action in ("<answer>out</answer>", "nothing", "<go>smith"):
        _, reward, terminated, _, _ = make().step(action)
        assert (reward, terminated) == (0.0, True)
    env = make()
    *_, (_, reward, _, truncated, info) = [env.step("<take></take>") for _ in range(12)]
    assert (reward, truncated, info["ended"]) == (0.0, True, "turn_limit")


def test_forks_walk_different_ways_from_one_town() -> None:
    env = make()
    for action in SOLVED[:5]:
        env.step(action)
    lost, found = env.fork(2)
    assert seen(lost, "<go>pond</go>") == "Jotel: back"
    for action in SOLVED[5:]:
        found.step(action)
    assert found.step("<leave></leave>")[1] == 1.0
    assert seen(env, "<go>church</go>") == "Yoron: back, church, pond"


def test_limits_that_no_maze_fits_are_errors_that_say_what_would() -> None:
    with pytest.raises(ValueError, match="max_turns must be at least 11 with 14 rooms and 1 doors"):
        MazeEnv("test", max_turns=10)
    with pytest.raises(TypeError, match="colour"):
        MazeEnv("test", colour="red")


@pytest.mark.parametrize("dialect", ["tags", "chat", "native"])
def test_it_is_played_in_other_dialects(dialect: str) -> None:
    env = MazeEnv("dev", dialect=dialect)
    assert play(env, "dev-0", Traveller(), np.random.default_rng(0))["success"] == 1.0
