"""Scripted play: episodes played without a model, to measure whether a task is fit for learning and to imitate.

.. code-block:: python

    def always_stop(env: TaskEnv[Any], rng: np.random.Generator) -> Script:
        return lambda: "<stop></stop>"

    info = play(env, "to-16", always_stop, np.random.default_rng(0))
"""

from __future__ import annotations

from typing import Any

import numpy as np

from at2po_env.tasks import Baseline, Player, Script, TaskEnv, Teacher

__all__ = ["Baseline", "Player", "Script", "Teacher", "play"]


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
