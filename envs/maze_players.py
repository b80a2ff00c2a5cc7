"""Ways to play mazes without a model: the baselines that bound the task, and a traveller with faults to imitate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from at2po_env.scripts import Baseline, Player, Script, Teacher
from at2po_env.tasks import TaskEnv
from at2po_env.tool_dialects import ToolAction
from at2po_env.tool_env import ToolEnv

from .maze_world import ASTRAY, GATE, ONWARD, SMITH

TAKE, UNLOCK, LEAVE = (ToolAction("call", tool) for tool in ("take", "unlock", "leave"))


def go(way: str) -> ToolAction:
    """The action that goes a way."""
    return ToolAction("call", "go", {"way": way})


@dataclass(frozen=True)
class View:
    """A maze as it is after the turns so far; ``rooms`` is all of it, of which a model sees the town ``at``."""

    at: str
    keys: int
    rooms: dict[str, dict[str, Any]]

    @property
    def ways(self) -> dict[str, str]:
        """The ways from here: sign → town."""
        ways: dict[str, str] = self.rooms[self.at]["ways"]
        return ways

    @property
    def to_do(self) -> ToolAction | None:
        """The actions that are possible here besides going on."""
        here = self.rooms[self.at]
        if "out" in here:
            return LEAVE
        if "key" in here:
            return TAKE
        return UNLOCK if self.keys and self.gated(self.at) else None

    def towards(self, wanted: Callable[[str], bool], *, past_gates: bool = False) -> str:
        """The way from here that leads to the nearest other town that is wanted."""
        reached, first = [self.at], {self.at: ""}
        for town in reached:
            if town != self.at and wanted(town):
                return first[town]
            for sign, other in self.rooms[town]["ways"].items():
                if other not in first and (past_gates or sign != GATE):
                    first[other] = sign if town == self.at else first[town]
                    reached.append(other)
        raise ValueError(f"no way from {self.at} leads there")

    def has(self, thing: str) -> Callable[[str], bool]:
        """Whether a town has a ``key``, or the way ``out``."""
        return lambda town: thing in self.rooms[town]

    def gated(self, town: str) -> bool:
        """Whether a locked gate is in a town."""
        return GATE in self.rooms[town]["ways"]


def script(env: TaskEnv[Any], act: Callable[[View], ToolAction]) -> Script:
    """Play what ``act`` does in the maze as it is then, in the dialect of the environment."""
    assert isinstance(env, ToolEnv)
    return lambda: env.rules.dialect.write(act(View(**json.loads(env.episode.state))), env.tools)


@dataclass(frozen=True)
class Traveller(Teacher):
    """A player who knows the maze, and makes mistakes; without any it is the oracle.

    Raises:
        ValueError: a probability is not from 0 to 1.
    """

    misread: tuple[str, ...] = ()  # signs of dead ends that it takes for ones that lead on
    wrong_way: float = 0.0  # of following such a sign
    stray: float = 0.0  # of following any other sign of a dead end
    forget_key: float = 0.0  # of passing a smith by; at the locked gate it turns back for the key

    def __post_init__(self) -> None:
        self.check_shares("wrong_way", "stray", "forget_key")

    def __call__(self, env: TaskEnv[Any], rng: np.random.Generator) -> Script:
        """Begin to play the episode that ``env`` was reset to."""
        been: set[str] = set()
        forgotten = False

        def act(view: View) -> ToolAction:
            nonlocal forgotten
            if view.at not in been:
                forgotten = forgotten or (SMITH in view.ways and rng.random() < self.forget_key)
            been.add(view.at)
            if view.to_do is not None:
                return view.to_do
            forgotten = forgotten and not view.gated(view.at)
            needs_key = any(map(view.gated, view.rooms)) and not view.keys and not forgotten
            way = view.towards(view.has("key")) if needs_key else view.towards(view.has("out"), past_gates=True)
            astray = [sign for sign, town in view.ways.items() if sign in ASTRAY and town not in been]
            if astray and way in ONWARD and rng.random() < self._chance(astray[0]):
                way = astray[0]
            return go(way)

        return script(env, act)

    def _chance(self, sign: str) -> float:
        return self.wrong_way if sign in self.misread else self.stray


def explorer(env: TaskEnv[Any], rng: np.random.Generator) -> Script:
    """Look for the way out town by town, without knowing what signs mean; a key is carried to a gate seen before."""
    been: set[str] = set()

    def act(view: View) -> ToolAction:
        been.add(view.at)
        if view.to_do is not None:
            return view.to_do
        if view.keys and any(map(view.gated, been)):
            return go(view.towards(lambda town: town in been and view.gated(town)))
        new = [sign for sign, town in view.ways.items() if town not in been and sign != GATE]
        return go(str(rng.choice(new)) if new else view.towards(lambda town: town not in been))

    return script(env, act)


def random_walk(env: TaskEnv[Any], rng: np.random.Generator) -> Script:
    """Do anything that can be done in a town."""

    def act(view: View) -> ToolAction:
        can = [go(sign) for sign in view.ways if sign != GATE]
        if view.to_do is not None:
            can.append(view.to_do)
        return can[rng.integers(len(can))]

    return script(env, act)


def always_way(number: int) -> Player:
    """Always take the way at one place in the list, and what lies in it."""

    def player(env: TaskEnv[Any], rng: np.random.Generator) -> Script:
        return script(env, lambda view: view.to_do or go(list(view.ways)[number]))

    return player


def always(action: ToolAction) -> Player:
    """Always the same action."""
    return lambda env, rng: script(env, lambda view: action)


def baselines() -> tuple[Baseline, ...]:
    """The players that bound the task."""
    constant = {
        "always the first way": always_way(0),
        "always the last way": always_way(-1),
        **{f"always {action.tool}": always(action) for action in (TAKE, UNLOCK, LEAVE)},
    }
    return (
        Baseline("constant", constant, 0.0, 0.1, ""),
        Baseline("random walk", {"random walk": random_walk}, 0.0, 0.1, "anything that can be done in a town"),
        Baseline("signs unread", {"explorer": explorer}, 0.0, 0.25, "new ways first, whatever their signs"),
        Baseline("oracle", {"oracle": Traveller()}, 0.95, 1.0, "knows the maze"),
    )
