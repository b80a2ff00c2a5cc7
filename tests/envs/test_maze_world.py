from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.maze_world import ASTRAY, BACK, GATE, LEAST_TURNS, ONWARD, SMITH, Maze, MazeConfig, mazes


def fewest_turns(maze: Maze) -> int:
    """The turns of the shortest solution, by a search over everything that can be done."""
    start = (maze.start, 0, frozenset[str](), frozenset[str]())  # town, keys in hand, towns emptied, gates opened
    queue, known = deque([(start, 0)]), {start}
    while queue:
        (at, keys, emptied, opened), turns = queue.popleft()
        room: dict[str, Any] = dict(maze.rooms[at])
        if "out" in room:
            return turns + 1
        gate = {other for sign, other in room["ways"].items() if sign == GATE} - opened
        futures = [(other, keys, emptied, opened) for other in room["ways"].values() if other not in gate]
        if "key" in room and at not in emptied:
            futures.append((at, keys + 1, emptied | {at}, opened))
        if gate and keys:
            futures.append((at, keys - 1, emptied, opened | gate))
        for future in futures:
            if future not in known:
                known.add(future)
                queue.append((future, turns + 1))
    raise AssertionError("there is no way out")


def test_thousands_of_mazes_are_solved_in_the_turns_that_they_say() -> None:
    config = MazeConfig()
    every = [maze for split in ("train", "dev", "test") for maze in mazes(config, split)]
    assert len(every) == 2800
    assert {maze.needed for maze in every} == {9, 10, 11}
    assert all(fewest_turns(maze) == maze.needed for maze in every)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**9), rooms=st.integers(16, 30), doors=st.integers(0, 3), number=st.integers(0, 299))
def test_mazes_of_any_size_need_eight_turns_and_have_a_way_out(seed: int, rooms: int, doors: int, number: int) -> None:
    maze = mazes(MazeConfig(seed, rooms, doors), "dev")[number]
    assert fewest_turns(maze) == maze.needed >= LEAST_TURNS
    assert len(maze.rooms) <= rooms


def test_signs_tell_what_a_way_is() -> None:
    maze = mazes(MazeConfig(), "test")[3]
    for town, room in maze.rooms.items():
        signs = [sign for sign in room["ways"] if sign != BACK]
        assert all(sign in (*ONWARD, *ASTRAY, SMITH, GATE) for sign in signs)
        on = [sign for sign in signs if sign in (*ONWARD, GATE)]
        assert len(on) == (1 if signs else 0)
        assert "key" not in room or (signs == [] and maze.rooms[room["ways"][BACK]]["ways"][SMITH] == town)


def test_splits_share_no_town_and_seeds_no_maze() -> None:
    towns = [{town for maze in mazes(MazeConfig(), split) for town in maze.rooms} for split in ("train", "dev", "test")]
    assert not towns[0] & towns[1] and not towns[0] & towns[2] and not towns[1] & towns[2]
    assert mazes(MazeConfig(), "dev")[0] != mazes(MazeConfig(seed=1), "dev")[0]


def test_mazes_are_the_same_on_every_machine() -> None:
    maze = mazes(MazeConfig(), "test")[3]
    assert (maze.start, list(maze.rooms["Savak"]["ways"].items())) == (
        "Yozel",
        [("back", "Yozel"), ("church", "Yoron"), ("pond", "Jotel")],
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rooms": 7}, "7 rooms are too few for 1 doors and 8 turns: at least 8"),
        ({"doors": 0}, "14 rooms are too few for 0 doors and 8 turns: at least 15"),
        ({"rooms": 61}, "rooms must be a whole number from 1 to 60, got 61"),
        ({"doors": True}, "doors must be a whole number from 0 to 10, got True"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_sizes_that_make_no_maze_say_what_would(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MazeConfig(**fields)


def test_a_split_that_there_is_not_is_an_error() -> None:
    with pytest.raises(ValueError, match="no split is named 'demo'; there are train, dev, test"):
        mazes(MazeConfig(), "demo")
