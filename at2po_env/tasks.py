"""``TaskEnv``: a forkable environment over a list of tasks, which is what training, judging and viewing work with.

``SearchQAEnv`` and ``ToolEnv`` are such environments. One of your own has the abstract methods of this class
and of ``ForkableEnv``; ``at2po_env.testing.TaskContract`` tests it.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Self, get_args

import numpy as np

from at2po_env.core import ForkableEnv, SnapshotT
from at2po_env.spaces import UnicodeText
from at2po_env.state import Text, plain

Order = Literal["random", "file"]


@dataclass(frozen=True)
class Task:
    """A description of a task for people: in tables, transcripts and stored trees, never for the model."""

    id: str
    text: str  # the question, or what is to be reached
    group: str = ""  # what tables split by, such as "2 hops"; "" for nothing
    answers: tuple[str, ...] = ()  # reference answers, where there are any


@dataclass(frozen=True)
class Metric:
    """A number that ``info`` holds when an episode has ended."""

    name: str  # its key in ``info``
    share: bool = False  # 0 or 1 in every episode, so that its mean is a share of the episodes
    title: str = ""  # as tables head it; ``name`` where it is empty
    words: str = ""  # as sentences and pages name it; the title where it is empty

    def __str__(self) -> str:
        return self.title or self.name

    @property
    def heading(self) -> str:
        """The metric in words."""
        return self.words or str(self)


@dataclass(frozen=True)
class TurnView:
    """One turn as transcripts show it."""

    text: str  # what the model wrote
    action: Mapping[str, Any]  # how it was read: ``kind`` (``malformed`` where it was not), ``content``, ``why``
    observation: Text  # what the model read next; () after the last turn
    reward: float = 0.0
    hits: tuple[Mapping[str, Any], ...] = ()  # of a search: id, title, score, best first


@dataclass(frozen=True)
class Chat:
    """Settings for chat endpoints, where observations are messages of the user, or of the tool."""

    stop: tuple[str, ...]  # strings that end the model's message; not those of a native call, which has no end of ours
    think: str = "think"  # the tag of thoughts
    tools: tuple[Mapping[str, Any], ...] = ()  # that the endpoint calls natively, as JSON schemas; () acts in text


@dataclass(frozen=True)
class Bounds:
    """Upper bounds of an episode."""

    turns: int
    observation: int  # bytes of UTF-8


Script = Callable[[], str]
"""The text of the next action of one episode. It reads what it needs from the environment that it was begun in."""

Player = Callable[["TaskEnv[Any]", np.random.Generator], Script]
"""Begin to play the episode that an environment was reset to; every choice is drawn from the generator."""


@dataclass(frozen=True)
class Baseline:
    """Ways to play that need no model, and what the best of them should reach where the task is fit for learning."""

    name: str  # such as "no search" or "oracle"
    players: Mapping[str, Player]  # by what they do, such as "always 'yes'"
    low: float  # the range of the first metric's mean over tasks
    high: float
    how: str = ""  # for the caption of the table; empty: the name of the best player


class Teacher(ABC):
    """A player with faults on purpose, whose episodes a policy imitates: what ``warm-start`` fits a model to.

    Make it a frozen dataclass: its fields are its faults, none of which it has by default, and the keys of ``teacher``
    in a configuration.
    """

    @abstractmethod
    def __call__(self, env: Any, rng: np.random.Generator) -> Script:
        """Begin to play the episode that ``env`` was reset to, as a ``Player``."""

    def record(self, env: Any) -> dict[str, Any]:
        """Its deliberate faults in an environment, as JSON values for ``warmstart.json``."""
        return {}

    def check_shares(self, *names: str) -> None:
        """Raise a ValueError that names the field where one is no probability."""
        for name in names:
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}, it must be from 0 to 1")


class TaskEnv(ForkableEnv[SnapshotT]):
    """A forkable environment over a list of tasks.

    ``reset(options={"task_id": …})`` begins a task, ``reset(options={"snapshot": …})`` continues an episode, and
    ``reset()`` takes a task by ``order``. When an episode ends, ``info`` holds why (``ended``) and the ``metrics``.

    Args:
        tasks: ids of the tasks, in order.
        order: which task ``reset()`` takes when it is not told one: a random one, or the next of the list.
        copies: environments that share the tasks of ``order="file"``; each takes every ``copies``-th of them, from the
            one that its seed picks on: ``make_vec`` seeds its copies with consecutive numbers.
        render_mode: ``"ansi"`` makes ``render()`` return the episode as text.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012  Gymnasium's own declaration

    metrics: tuple[Metric, ...] = ()
    """What ``info`` holds at an episode's end, the one that results are quoted in first."""

    task_word = "task"
    """What a task is called in messages and tables: ``question`` where it is one."""

    answer_key = "answer"
    """Where ``info`` holds the answer that ended an episode; it may be None, or missing."""

    chat: Chat | None = None
    """How a chat endpoint plays; None where observations are parts of the model's own message."""

    limits: Mapping[str, Any] = MappingProxyType({})
    """Limits of an episode by name, as JSON values, for manifests and plans."""

    bounds: Bounds | None = None
    """For the most that an evaluation can cost; None where it is not known."""

    teacher: type[Teacher] | None = None
    """Plays episodes for a policy to imitate, with faults; None where ``warm-start`` has nobody to imitate."""

    def __init__(
        self, tasks: Sequence[str], *, order: Order = "random", copies: int = 1, render_mode: str | None = None
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode must be None or 'ansi', got {render_mode!r}")
        if order not in get_args(Order):
            raise ValueError(f"order must be one of {get_args(Order)}, got {order!r}")
        if isinstance(copies, bool) or not isinstance(copies, int) or not 1 <= copies <= len(tasks):
            raise ValueError(f"copies must be a whole number from 1 to the {len(tasks)} {self.task_word}s: {copies!r}")
        self.tasks = tuple(tasks)
        self.order = order
        self.copies = copies
        self.render_mode = render_mode
        self.action_space = UnicodeText()
        self.observation_space = UnicodeText()
        # Of the file order: tasks taken, and where this copy's share begins; None until a seed says which it is.
        self._taken = 0
        self._first = 0 if copies == 1 else None

    @abstractmethod
    def begin(self, task_id: str) -> None:
        """Start an episode of a task.

        Raises:
            KeyError: there is no such task.
        """

    @abstractmethod
    def task(self, task_id: str) -> Task:
        """The description of a task.

        Raises:
            KeyError: there is no such task.
        """

    @abstractmethod
    def manifest(self) -> dict[str, Any]:
        """Everything that decides an episode besides the model, as JSON values with a ``digest`` where it is large.

        ``dataset`` has ``name``, ``split``, ``questions`` (their number) and ``digest``; the rest is the environment's.
        """

    @abstractmethod
    def read_snapshot(self, stored: Mapping[str, Any]) -> SnapshotT:
        """Read the JSON form of a snapshot, which its ``to_json()`` wrote.

        Raises:
            SnapshotError: it is something else, or was changed.
        """

    def baselines(self, fit: Self) -> tuple[Baseline, ...]:
        """Ways to play without a model, which ``at2po-agent gates`` measures; none unless an environment has some.

        Args:
            fit: the same environment over other tasks, from which a guesser may learn.
        """
        return ()

    def read_action(self, text: str) -> dict[str, Any]:
        """Parse a turn that was not taken, as ``TurnView.action``; None unless it is overridden."""
        return {"kind": "", "content": None, "why": None}

    @property
    def reward_name(self) -> str:
        """The name of the reward function, for messages."""
        return f"the reward of {type(self).__name__}"

    def tape_position(self) -> int | None:
        """Bytes of recorded results that this environment has used so far; None where nothing is recorded."""
        return None

    @abstractmethod
    def transcript(self, snapshot: SnapshotT) -> tuple[TurnView, ...]:
        """The turns of an episode, from the first to the last."""

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """The ``info`` of ``reset`` and ``step``: ``task_id``, and JSON values of your own.

        When the episode has ended, also ``ended`` (why, in a word), the ``metrics``, and the answer if it has one.
        """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode, or continue one.

        Args:
            seed: seeds the choice of tasks.
            options: ``{"task_id": …}`` takes that task (``question_id`` is another name of it); ``{"snapshot": …}``
                restores a snapshot or its JSON form.

        Raises:
            KeyError: there is no task with this id.
            SnapshotError: the snapshot cannot be used here.
            ValueError: unknown options, or more than one; or one of several ``copies`` was never seeded.
        """
        super().reset(seed=seed)
        if seed is not None:
            self.take_share(seed)
        wanted = {name: value for name, value in (options or {}).items() if value is not None}
        if len(wanted) > 1 or not wanted.keys() <= {"snapshot", "task_id", "question_id"}:
            raise ValueError(f"reset takes the option task_id or snapshot, got {sorted(wanted)}")
        match wanted:
            case {"snapshot": snapshot}:
                self.restore(self.read_snapshot(snapshot) if isinstance(snapshot, Mapping) else snapshot)
            case {"task_id": task_id} | {"question_id": task_id}:
                self.begin(task_id)
            case _:
                self.begin(self._choose())
        return plain(self.observation()), self.info()

    def take_share(self, copy: int) -> None:
        """Start anew with the tasks of the file order that are this copy's; numbers count on past ``copies``."""
        self._taken, self._first = 0, copy % self.copies

    def _choose(self) -> str:
        if self.order == "random":
            return self.tasks[int(self.np_random.integers(len(self.tasks)))]
        if self._first is None:
            raise ValueError(
                f"copies={self.copies} share the {self.task_word}s: reset(seed=…) decides which share is whose"
            )
        share = range(self._first, len(self.tasks), self.copies)
        self._taken += 1
        return self.tasks[share[(self._taken - 1) % len(share)]]

    def clone(self) -> Self:
        """A new environment that shares what is read only, not yet reset."""
        # A shallow copy, because growing a tree clones for every path: nothing is computed again.
        env = copy.copy(self)
        env.action_space, env.observation_space = UnicodeText(), UnicodeText()
        env._np_random, env._np_random_seed = None, None
        return env

    def render(self) -> str | None:
        """The episode so far as text, in render mode ``ansi``."""
        if self.render_mode is None:
            return None
        info, turns = self.info(), self.transcript(self.snapshot())
        start = self.clone()
        start.begin(info["task_id"])
        lines = [plain(start.observation()), *(f"{turn.text}{plain(turn.observation)}" for turn in turns)]
        if "ended" in info:
            scores = ", ".join(f"{metric} {info[metric.name]:.4g}" for metric in self.metrics)
            lines.append(f"[{info['ended']}] {scores}")
        return "\n".join(lines)
