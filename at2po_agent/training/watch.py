"""Stop a run that cannot learn: a reward that is not finite, or steps of which every update was skipped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from at2po_agent.errors import AgentError
from at2po_agent.method.tree import TurnTree
from at2po_env.tasks import TaskEnv

PATIENCE = 3  # steps in a row


class TrainingError(AgentError):
    """Training cannot go on, as nothing would be learned; the message says why and what to look at."""


def check_rewards(trees: Sequence[TurnTree], env: TaskEnv[Any]) -> None:
    """Check that every leaf has a finite reward.

    Args:
        trees: of a step.
        env: that they are of.

    Raises:
        TrainingError: a reward is NaN or infinite; the message has the question, the answer and the reward function.
    """
    for tree in trees:
        for leaf in (tree[index] for index in tree.leaves):
            if leaf.reward is not None and not math.isfinite(leaf.reward):
                answer = leaf.info.get("prediction", leaf.info.get("answer"))
                what = f"no answer (it ended by {leaf.ended})" if answer is None else f"the answer {answer[:200]!r}"
                where = f"{what} to {env.task_word} {tree.question_id!r}"
                raise TrainingError(
                    f"the reward is {leaf.reward} for {where}: {env.reward_name} must return a finite number. "
                    "It was not trained on; fix the reward, and continue with --resume"
                )


class SkippedUpdates:
    """End a run that had all its updates skipped in ``PATIENCE`` steps in a row; ``collapse`` notes the first."""

    def __init__(self) -> None:
        self._skipped = 0

    def see(self, step: int, updated: Mapping[str, float]) -> None:
        """Look at what the updates of a step gave (see ``Updater.update``); a step without one counts for nothing.

        Raises:
            TrainingError: it is the last of ``PATIENCE`` steps in a row.
        """
        if updated.get("steps"):
            self._skipped = 0
        elif updated.get("skipped_steps"):
            self._skipped += 1
        if self._skipped == PATIENCE:
            raise TrainingError(
                f"every update of {PATIENCE} steps in a row was skipped, up to step {step}, because their gradients "
                "are not finite: the policy learns nothing. Look at the size of the rewards, update.lr and "
                "algorithm.objective, and start a new run with other settings"
            )
