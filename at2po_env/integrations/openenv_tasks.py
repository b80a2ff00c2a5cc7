"""The tasks of a server of ours, as OpenEnv's task routes list them: by split and index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException

from at2po_env.tasks import TaskEnv

_LISTED = 1000  # tasks of a list; a range names any others


class SplitTasks:
    """OpenEnv's ``TaskProvider`` over environments by split."""

    def __init__(self, envs: Mapping[str, TaskEnv[Any]]) -> None:
        self.envs = envs

    def of(self, split: str) -> TaskEnv[Any]:
        """The environment of a split.

        Raises:
            HTTPException: there is no such split.
        """
        if split not in self.envs:
            raise HTTPException(404, f"there is no split {split!r:.80}; there are {', '.join(self.envs)}")
        return self.envs[split]

    def list_splits(self) -> list[str]:
        """The splits that are served."""
        return list(self.envs)

    def num_tasks(self, split: str) -> int:
        """The number of tasks of a split."""
        return len(self.of(split).tasks)

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        """The first thousand tasks of a split."""
        return self.get_task_range(split, 0, _LISTED)

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        """The task at an index of a split: nothing of what it asks, or how it is scored."""
        tasks = self.of(split).tasks
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(tasks):
            raise IndexError(f"index must be a whole number from 0 to {len(tasks) - 1}, got {index!r:.80}")
        return {"id": tasks[index], "index": index}

    def get_task_range(self, split: str, start: int | None = None, stop: int | None = None) -> list[dict[str, Any]]:
        """The tasks of a slice of a split."""
        return [self.get_task(split, index) for index in range(*slice(start, stop).indices(self.num_tasks(split)))]
