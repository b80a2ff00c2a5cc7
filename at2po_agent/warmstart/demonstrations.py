"""Episodes that a teacher plays in the real environment, written down as the ids that a policy would have seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from at2po_agent.rollouts.grow import Encoder
from at2po_agent.warmstart.imitation import Demonstration
from at2po_env.scripts import Player, play
from at2po_env.state import Segment
from at2po_env.tasks import TaskEnv


def play_all(
    env: TaskEnv[Any], player: Player, episodes: int, seed: tuple[int, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Play ``episodes`` episodes: all tasks in a random order, again and again in new orders.

    Yields the task's id and the last ``info`` of each, at whose end ``env`` is. Episode ``i``'s task and the player's
    choices in it depend on ``(seed, i)`` only.
    """
    for number in range(episodes):
        round_, position = divmod(number, len(env.tasks))
        if position == 0:
            order = np.random.default_rng((*seed, round_)).permutation(len(env.tasks))
        task_id = env.tasks[order[position]]
        yield task_id, play(env, task_id, player, np.random.default_rng((*seed, round_, position)))


@dataclass(frozen=True)
class Scribe:
    """Writes episodes down as token ids.

    Args:
        encoder: see ``rollouts.grow.Encoder``.
        end_id: the end-of-sequence token, which the policy writes after the last turn.
    """

    encoder: Encoder
    end_id: int

    def write_down(self, env: TaskEnv[Any], context_weight: float) -> Demonstration:
        """The ids of a rollout in which the policy wrote the turns of the episode that has ended in ``env``.

        Args:
            env: it.
            context_weight: of the loss of what the policy reads; what it writes weighs 1.
        """
        start = env.clone()
        start.begin(env.info()["task_id"])
        read = self.encoder.prompt(start.observation())
        pieces: list[tuple[tuple[int, ...], float]] = []
        for turn in env.transcript(env.snapshot()):
            written = Segment(_after(self.encoder.opened_thought(read), turn.text), data=False)
            pieces += [(read, context_weight), (self.encoder.observation((written,)), 1.0)]
            # What the last turn brought is read by nobody.
            read = self.encoder.observation(turn.observation)
        pieces.append(((self.end_id,), 1.0))
        return Demonstration(
            ids=tuple(i for ids, _ in pieces for i in ids),
            weights=tuple(weight for ids, weight in pieces for _ in ids),
        )


def _after(opened: str, turn: str) -> str:
    """The rest of a turn whose prompt has opened its thought."""
    tag = opened.strip()
    if not tag:
        return turn
    return turn.removeprefix(tag) if turn.startswith(tag) else tag.replace("<", "</") + turn
