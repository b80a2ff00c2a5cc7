"""Scripted play: episodes played without a model, to measure whether a task is fit for learning and to imitate.

.. code-block:: python

    def always_stop(env: TaskEnv[Any], rng: np.random.Generator) -> Script:
        return lambda: "<stop></stop>"

    info = play(env, "to-16", always_stop, np.random.default_rng(0))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from at2po_env.tasks import TaskEnv

Script = Callable[[], str]
"""The text of the next action of one episode. It reads what it needs from the environment that it was begun in."""

Player = Callable[[TaskEnv[Any], np.random.Generator], Script]
"""Begin to play the episode that an environment was reset to; every choice is drawn from the generator."""


@dataclass(frozen=True)
class Baseline:
    """Ways to play that need no model, and what the best of them should reach where the task is fit for learning."""

    name: str  # such as "no search" or "oracle"
    players: Mapping[str, Player]  # by what they do, such as "always 'yes'"
    low: float  # the range of the first metric's mean over tasks
    high: float
    how: str  # for the caption of the table; empty: the name of the best player


def play(env: TaskEnv[Any], task_id: str, player: Player, rng: np.random.Generator) -> dict[str, Any]:
    """Play one episode to its end and return its last ``info``.

    Raises:
        KeyError: there is no such task.
    """
    _, info = env.reset(options={"task_id": task_id})
    script = player(env, rng)
    while "ended" not in info:
        info = env.step(script())[4]
    return info
