from __future__ import annotations

import numpy as np
import pytest

from at2po_env.scripts import Player, play
from envs.maze import MazeEnv
from envs.maze_players import Traveller, explorer
from envs.maze_world import ASTRAY


def success(player: Player, tasks: int = 100, **kwargs: int) -> float:
    env = MazeEnv("dev", **kwargs)
    ends = [play(env, task, player, np.random.default_rng(i)) for i, task in enumerate(env.tasks[:tasks])]
    return float(np.mean([end["success"] for end in ends]))


def test_every_baseline_is_in_its_range() -> None:
    env = MazeEnv("dev")
    for baseline in env.baselines(env):
        best = max(success(player) for player in baseline.players.values())
        assert baseline.low <= best <= baseline.high, baseline.name


@pytest.mark.parametrize(("rooms", "doors"), [(14, 1), (20, 3), (15, 0)])
def test_the_oracle_takes_no_turn_too_many(rooms: int, doors: int) -> None:
    env = MazeEnv("dev", rooms=rooms, doors=doors, max_turns=40)
    for number, task in enumerate(env.tasks[:50]):
        info = play(env, task, Traveller(), np.random.default_rng(number))
        assert (info["success"], f"{info['turns']:2.0f} turns") == (1.0, env.task(task).group)


@pytest.mark.parametrize("player", [explorer, Traveller(ASTRAY, 1.0, 1.0, 1.0)])
def test_who_errs_gets_out_as_well_given_the_time(player: Player) -> None:
    assert success(player, max_turns=60) == 1.0


def test_faults_cost_the_way_out() -> None:
    assert success(Traveller(ASTRAY[:4], 0.7, 0.05, 0.5)) < 0.5
    assert success(Traveller(forget_key=1.0)) < 0.9
