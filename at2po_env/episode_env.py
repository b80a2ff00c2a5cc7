"""``EpisodeEnv``: a ``TaskEnv`` whose episodes are lists of turns, as those of ``ToolEnv`` and ``Forkable`` are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

from gymnasium.error import ResetNeeded

from at2po_env.core import StepResult
from at2po_env.episodes import Episode
from at2po_env.errors import SnapshotError
from at2po_env.state import plain
from at2po_env.tasks import Metric, TaskEnv, TurnView
from search_backend.outside import well_formed

_FROM_OUTSIDE = ("length_limit", "turn_limit")
_TERMINATED = ("answer", "done", "malformed")


class EpisodeEnv(TaskEnv[Episode]):
    """A ``TaskEnv`` whose snapshot is an ``Episode``, and the parts of it that follow from that.

    A subclass sets ``_rules_digest``, of everything that decides an episode besides its task, and ``_tasks_digest``.

    Args:
        tasks: ids of the tasks, in order.
        name: of the tasks in tables and manifests.
        split: of the tasks.
        **options: ``order``, ``copies`` and ``render_mode`` of ``TaskEnv``.

    ``info`` holds ``task_id``, ``turns``, ``action`` (kind, content, why), and at the end ``ended``, ``success``,
    ``reward`` and ``turns``.
    """

    metrics = (Metric("success", share=True), Metric("reward"), Metric("turns"))

    decided_by = "other tasks or rules"
    """What a snapshot that does not fit was taken with, in the error that says so."""

    _rules_digest: str
    _tasks_digest: str

    def __init__(self, tasks: Sequence[str], name: str, split: str, **options: Any) -> None:
        super().__init__(tasks, **options)
        self.name, self.split = name, split
        self._known = frozenset(self.tasks)
        self._episode: Episode | None = None

    @property
    def episode(self) -> Episode:
        """The current episode.

        Raises:
            ResetNeeded: there is none yet.
        """
        if self._episode is None:
            raise ResetNeeded("call reset() first: there is no episode yet")
        return self._episode

    def _open_episode(self) -> Episode:
        """The current episode, which has not ended."""
        if self.episode.ended is not None:
            raise ResetNeeded(f"the episode has ended ({self.episode.ended}): call reset()")
        return self.episode

    def _turn(self, action: str) -> str:
        """An action as the text that is stored."""
        if not isinstance(action, str):
            raise TypeError(f"an action is the text of one turn, got {type(action).__name__}")
        self._open_episode()
        return well_formed(action)

    def _closing(self, reason: str) -> Episode:
        """The current episode, which can be ended from outside for this reason."""
        episode = self._open_episode()
        if reason not in _FROM_OUTSIDE:
            raise ValueError(f"an episode can be ended from outside for {_FROM_OUTSIDE}, got {reason!r}")
        return episode

    def _stepped(self, reward: float) -> StepResult:
        ended = self.episode.ended
        terminated = ended in _TERMINATED
        return plain(self.observation()), reward, terminated, ended is not None and not terminated, self.info()

    def _dataset(self) -> dict[str, Any]:
        """The manifest's entry for the tasks."""
        count, digest = len(self.tasks), self._tasks_digest
        return {"name": self.name, "split": self.split, "questions": count, "digest": digest}

    def info(self) -> dict[str, Any]:
        """The task's id, the turns so far, the last action, and how the episode ended."""
        episode = self.episode
        info: dict[str, Any] = {"task_id": episode.task_id, "turns": episode.depth}
        if episode.turn is not None:
            info["action"] = json.loads(episode.turn.action)
        if episode.ended is not None:
            info |= {"ended": episode.ended, **dict(episode.scores)}
        return info

    def snapshot(self) -> Episode:
        """The current episode. Taking it costs a reference."""
        return self.episode

    def _check_snapshot(self, snapshot: Episode) -> None:
        """Check that an episode is of these tasks and rules.

        Raises:
            SnapshotError: it is not.
        """
        if not isinstance(snapshot, Episode):
            raise SnapshotError(f"a snapshot is an Episode, got {type(snapshot).__name__}")
        if snapshot.rules != self._rules_digest or snapshot.task_id not in self._known:
            raise SnapshotError(
                f"the snapshot of task {snapshot.task_id!r} was taken with {self.decided_by} (rules "
                f"{snapshot.rules[:12]}…, here {self._rules_digest[:12]}…): restore it in an environment made with the "
                "same arguments"
            )

    def read_snapshot(self, stored: Mapping[str, Any]) -> Episode:
        """Read the JSON form of an ``Episode``."""
        return Episode.from_json(stored)

    def transcript(self, snapshot: Episode) -> tuple[TurnView, ...]:
        """The turns of an episode, from the first to the last."""
        return tuple(turn.view() for turn in snapshot.turns())

    def clone(self) -> Self:
        """A new environment over the same tasks, not yet reset."""
        env = super().clone()
        env._episode = None
        return env
