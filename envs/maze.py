"""A maze of rooms and keys, ``AT2PO-Maze-v0``: eight turns and more, dead ends, and a reward only at the end.

The rooms are MicroWiki's towns. The model reads the signs of the ways out of the town where it is, goes, takes the keys
that it needs, unlocks gates, and leaves where there is a way out.
"""

from __future__ import annotations

from typing import Any, Self

from at2po_env.scripts import Baseline
from at2po_env.tool_env import ToolEnv
from at2po_env.tool_rules import Finished, ToolRules, ToolTask

from .maze_players import Traveller, baselines
from .maze_world import GATE, OPEN, Maze, MazeConfig, mazes

MAX_TURNS = 12


def go(way: str, state: dict[str, Any]) -> str:
    """Go the way that has this sign."""
    ways = state["rooms"][state["at"]]["ways"]
    if way not in ways:
        raise ValueError("no such way")
    if way == GATE:
        raise ValueError("locked")
    state["at"] = ways[way]
    return described(state)


def take(state: dict[str, Any]) -> str:
    """Take the key that is here."""
    if not state["rooms"][state["at"]].pop("key", False):
        raise ValueError("no key")
    state["keys"] += 1
    return "taken"


def unlock(state: dict[str, Any]) -> str:
    """Unlock the gate that is here; it uses up a key."""
    ways = state["rooms"][state["at"]]["ways"]
    if GATE not in ways:
        raise ValueError("no gate")
    if not state["keys"]:
        raise ValueError("no key")
    state["keys"] -= 1
    ways[OPEN] = ways.pop(GATE)
    return "open"


def leave(state: dict[str, Any]) -> str:
    """Leave the maze, where there is a way out."""
    if "out" not in state["rooms"][state["at"]]:
        raise ValueError("no way out")
    return "out"


def described(state: dict[str, Any]) -> str:
    """The town where the episode is, as the model reads it: ``Kobel, key: back, barn, mill``."""
    room = state["rooms"][state["at"]]
    things = "".join(f", {thing}" for thing in ("key", "out") if thing in room)
    return f"{state['at']}{things}: {', '.join(sorted(room['ways']))}"


def got_out(end: Finished) -> float:
    """1 where the model left the maze."""
    return float(end.ended == "done")


class MazeEnv(ToolEnv):
    """Mazes of one split.

    Args:
        split: ``train``, ``dev`` or ``test``; they share no towns.
        seed: of the mazes; another seed makes others.
        rooms: of the largest mazes; the others have two or four fewer.
        doors: gates on the way out.
        max_turns: of an episode; the longest maze can be solved in them.
        order: see ``TaskEnv``.
        copies: see ``TaskEnv``.
        render_mode: see ``TaskEnv``.
        **rules: further fields of ``ToolRules``.

    Raises:
        ValueError: an argument is out of range; the message says what fits.
    """

    teacher = Traveller

    def __init__(
        self,
        split: str = "train",
        *,
        seed: int = 0,
        rooms: int = MazeConfig.rooms,
        doors: int = MazeConfig.doors,
        max_turns: int = MAX_TURNS,
        **rest: Any,
    ) -> None:
        config = MazeConfig(seed, rooms, doors)
        made = mazes(config, split)
        options = {name: rest.pop(name) for name in ("order", "copies", "render_mode") if name in rest}
        rules = ToolRules.of(**{"dialect": "bare", "max_turns": max_turns, "ends": ("leave",), **rest})
        if max_turns < (longest := max(maze.needed for maze in made)):
            raise ValueError(f"Maze: max_turns must be at least {longest} with {rooms} rooms and {doors} doors")
        tasks = [_task(f"{split}-{number}", maze) for number, maze in enumerate(made)]
        super().__init__([go, take, unlock, leave], tasks, got_out, rules, name="maze", split=split, **options)

    def baselines(self, fit: Self) -> tuple[Baseline, ...]:
        """Random and constant play, exploring without reading the signs, and the oracle."""
        return baselines()


def _task(task_id: str, maze: Maze) -> ToolTask:
    state = {"at": maze.start, "keys": 0, "rooms": maze.rooms}
    text = f"Find the way out of the maze. {described(state)}\n"
    # Padded, because tables sort groups by their text.
    return ToolTask(task_id, text, group=f"{maze.needed:2} turns", state=state)
