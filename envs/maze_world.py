"""Mazes of MicroWiki's towns: how one is laid out, and how it is made from a seed.

A maze is a tree. One path leads from the start to the way out; every other way ends in a dead end, or in the smith's
town, where the key of a gate lies. What a way is signed with tells what it is: some signs lead on and others do not.
Which ones is the same in every maze and told nowhere, so it can be learned and not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from .microwiki_text import names
from .microwiki_world import Dice, shares

VERSION = 1
"""Changes whenever the same configuration would give other mazes."""

ONWARD = ("mill", "bridge", "church", "market", "ferry", "tower")
"""Signs of the ways that lead on."""
ASTRAY = ("barn", "quarry", "pond", "inn", "ruin", "mine")
"""Signs of the ways into dead ends."""
SMITH, GATE, OPEN, BACK = "smith", "gate", "open", "back"

MAZES: Mapping[str, int] = {"train": 2000, "dev": 300, "test": 500}
"""How many mazes a split has."""
_SHARES = {"train": 0.6, "dev": 0.15, "test": 0.25}  # of the towns' names
MOST_ROOMS = 60
LEAST_TURNS = 8


@dataclass(frozen=True)
class Maze:
    """A maze. The solution walks ``length`` ways, and for every gate one to the smith and one back from there."""

    start: str
    rooms: Mapping[str, Mapping[str, Any]]  # town → ways (sign → town), and key or out where it has one
    length: int  # ways from the start to the way out
    doors: int

    @property
    def needed(self) -> int:
        """The fewest turns that a solution takes: each gate costs two ways, taking the key and unlocking."""
        return self.length + 4 * self.doors + 1


@dataclass(frozen=True)
class MazeConfig:
    """Everything that mazes depend on.

    Raises:
        ValueError: a field is out of range; the message says what fits.
    """

    seed: int = 0
    rooms: int = 14  # of the largest mazes; the others have two or four fewer
    doors: int = 1  # gates on the way out, each with a key of its own

    def __post_init__(self) -> None:
        for name, least, most in (("seed", 0, None), ("doors", 0, 10), ("rooms", 1, MOST_ROOMS)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least or (most and value > most):
                bounds = f"from {least} to {most}" if most else f"of at least {least}"
                raise ValueError(f"Maze: {name} must be a whole number {bounds}, got {value!r}")
        if self.longest < self.shortest:
            fits = 2 * self._least_length + 1 + self.doors
            raise ValueError(
                f"Maze: {self.rooms} rooms are too few for {self.doors} doors and {LEAST_TURNS} turns: at least {fits}"
            )

    @property
    def longest(self) -> int:
        """Ways of the longest paths from start to exit: all towns on it but the last have a dead end beside them."""
        return (self.rooms - 1 - self.doors) // 2

    @property
    def shortest(self) -> int:
        """Ways of the shortest paths."""
        return max(self._least_length, self.longest - 2)

    @property
    def _least_length(self) -> int:
        return max(1, self.doors, LEAST_TURNS - 1 - 4 * self.doors)


@lru_cache(maxsize=8)
def mazes(config: MazeConfig, split: str) -> tuple[Maze, ...]:
    """Make the mazes of a split; no town of one split is in another.

    Raises:
        ValueError: there is no such split.
    """
    if split not in MAZES:
        raise ValueError(f"Maze: no split is named {split!r}; there are {', '.join(MAZES)}")
    towns = _towns(config.seed)[split]
    return tuple(
        _maze(config, towns, Dice(VERSION, *asdict(config).values(), split, number)) for number in range(MAZES[split])
    )


def _towns(seed: int) -> dict[str, list[str]]:
    every = Dice(seed, "maze towns").shuffled(names(2))
    counts = shares(len(every), _SHARES)
    towns, start = {}, 0
    for split, count in counts.items():
        towns[split] = every[start : start + count]
        start += count
    return towns


def _maze(config: MazeConfig, towns: list[str], dice: Dice) -> Maze:
    length = config.shortest + dice.below(config.longest - config.shortest + 1)
    count = 2 * length + 1 + config.doors
    chosen: dict[str, None] = {}
    while len(chosen) < count:
        chosen[dice.pick(towns)] = None
    unused = iter(chosen)
    path = [next(unused) for _ in range(length + 1)]
    gates = sorted(dice.shuffled(range(length))[: config.doors])
    ways: dict[str, dict[str, str]] = {town: {} for town in chosen}
    for at, town in enumerate(path[:-1]):
        _connect(ways, town, path[at + 1], GATE if at in gates else dice.pick(ONWARD))
        _connect(ways, town, next(unused), dice.pick(ASTRAY))
    keys = []
    for before, gate in zip([-1, *gates], gates, strict=False):
        # Between the gate before and its own, so that every key can be had when it is needed.
        keys.append(next(unused))
        _connect(ways, path[before + 1 + dice.below(gate - before)], keys[-1], SMITH)
    rooms: dict[str, dict[str, Any]] = {
        # By sign, as the state of an episode keeps them too: their order tells nothing.
        town: {"ways": dict(sorted(leading.items()))}
        for town, leading in ways.items()
    }
    for town in keys:
        rooms[town]["key"] = True
    rooms[path[-1]]["out"] = True
    return Maze(path[0], rooms, length, config.doors)


def _connect(ways: dict[str, dict[str, str]], town: str, other: str, sign: str) -> None:
    ways[town][sign] = other
    ways[other][BACK] = town
