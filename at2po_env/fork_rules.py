"""Rules of a ``Forkable``: how turns are read and observations written, and its tasks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from at2po_env.rendering import followed_by, text_of
from at2po_env.snapshots import chain
from at2po_env.state import Text, UserMessage
from at2po_env.turn_text import first_span, without_thoughts

_THINK = "think"
_ACT = (
    "Act in the environment below. Think first, inside <think> and </think>, then write one action between <{tag}> and "
    "</{tag}>.\n"
)
_FIRST_SEED = {"train": 0, "dev": 1_000_000, "test": 2_000_000}


@dataclass(frozen=True)
class Start:
    """The start of an episode: the arguments of the environment's ``reset``."""

    seed: int | None = None
    options: Mapping[str, Any] | None = dataclasses.field(default=None, hash=False)  # JSON values

    def __str__(self) -> str:
        said = [] if self.seed is None else [f"seed {self.seed}"]
        return ", ".join(said + [f"{key} {value}" for key, value in (self.options or {}).items()]) or "as it is"

    def to_json(self) -> dict[str, Any]:
        """As JSON values; the options are a copy."""
        options = None if self.options is None else json.loads(json.dumps(dict(self.options)))
        return {"seed": self.seed, "options": options}


Tasks = int | Sequence[int] | Mapping[str, int | Mapping[str, Any]]


def starts(tasks: Tasks, split: str) -> dict[str, Start]:
    """The tasks of a split by their ids.

    Args:
        tasks: how many seeds: the first of the split, which is ``train``, ``dev`` or ``test``. Or the seeds; the id of
            the task of seed 3 is ``seed-3``. Or by id a seed, or a mapping of ``seed`` and ``options``.
        split: see above.

    Raises:
        ValueError: there are none, or they are something else.
    """
    if isinstance(tasks, int) and not isinstance(tasks, bool):
        if split not in _FIRST_SEED:
            raise ValueError(f"tasks={tasks} are seeds of {', '.join(_FIRST_SEED)}: name the tasks of split {split!r}")
        tasks = range(_FIRST_SEED[split], _FIRST_SEED[split] + tasks)
    if isinstance(tasks, Sequence):
        tasks = {f"seed-{seed}": seed for seed in tasks}
    if not isinstance(tasks, Mapping) or not tasks:
        raise ValueError(f"tasks must be a number of seeds, seeds, or reset arguments by task id, got {tasks!r:.80}")
    return {str(task_id): _start(str(task_id), given) for task_id, given in tasks.items()}


def _start(task_id: str, given: Any) -> Start:
    parts = dict(given) if isinstance(given, Mapping) else {"seed": given}
    seed, options = parts.pop("seed", None), parts.pop("options", None)
    whole = seed is None or (isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0)
    if parts or not whole or not isinstance(options, Mapping | None):
        raise ValueError(
            f"task {task_id!r}: a seed from 0 on, or a mapping of seed and options is needed, got {given!r:.80}"
        )
    return Start(seed, options)


@dataclass(frozen=True)
class GameAction:
    """A parsed turn: the action that the environment takes, or the reason why there is none."""

    kind: Literal["action", "malformed"]
    content: str | None = None
    why: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The action as ``info``, transcripts and records hold it."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class ForkRules:
    """Settings for reading turns and writing observations, and limits beside the environment's own.

    Thoughts, in ``<think>``, are no part of an action. Without a ``tag`` the rest of the turn is the action. With one
    the action stands inside ``<tag>…</tag>``, and a turn without is malformed: it ends the episode unless
    ``on_malformed`` is ``"continue"``, where the model reads what is wrong.
    """

    tag: str | None = None
    instructions: str | None = None  # before the first observation; None: a sentence about the tag where there is one
    observation_open: str = "\n<observation>\n"  # around every observation after the first
    observation_close: str = "\n</observation>\n"
    as_messages: bool = False  # observations are messages of the user, not parts of the assistant's
    max_turns: int | None = None  # None: only the environment's own limit
    on_malformed: Literal["end", "continue"] = "end"
    success: float = 1.0  # the sum of rewards from which on an episode is a success

    @classmethod
    def of(cls, **values: Any) -> ForkRules:
        """Rules from plain values, as configurations give them.

        Raises:
            ValueError: a name is unknown, or a value is out of its range.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(set(values) - set(names)):
            raise ValueError(
                f"fork has no {', '.join(unknown)}; it has how, tasks, max_live, order, copies, {', '.join(names)}"
            )
        return cls(**values)

    def __post_init__(self) -> None:
        turns = self.max_turns
        if turns is not None and (isinstance(turns, bool) or not isinstance(turns, int) or turns < 1):
            raise ValueError(f"max_turns must be a whole number of at least 1, got {turns!r}")
        if self.on_malformed not in ("end", "continue"):
            raise ValueError(f"on_malformed must be 'end' or 'continue', got {self.on_malformed!r}")
        if self.tag is not None and (not self.tag.isidentifier() or self.tag == _THINK):
            raise ValueError(f"tag must be a word such as 'action', got {self.tag!r}")

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dataclasses.asdict(self)

    @property
    def digest(self) -> str:
        """SHA-256 hex digest over every field."""
        return chain("fork rules", json.dumps(self.to_json(), sort_keys=True))

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings at which generation of a turn stops."""
        return () if self.tag is None else (f"</{self.tag}>",)

    def read(self, text: str) -> GameAction:
        """Read one turn."""
        spoken = without_thoughts(text, _THINK).text
        if self.tag is None:
            return GameAction("action", spoken.strip())
        span = first_span(spoken, self.tag)
        if span is None:
            return GameAction("malformed", why=f"no complete <{self.tag}>")
        return GameAction("action", span[1].strip())

    def prompt(self, observation: str) -> Text:
        """The prompt."""
        said = _ACT.format(tag=self.tag) if self.instructions is None and self.tag else self.instructions or ""
        return text_of(*followed_by(said, observation), ("\n", False))

    def observation(self, text: str, after: str) -> Text:
        """The observation after a turn of the kind ``after``."""
        # What is wrong with a turn is said in our words, which may name the tag; an observation is anybody's.
        opened = self.observation_open
        said = [(opened + text, False)] if after == "malformed" else followed_by(opened, text)
        return self.placed(text_of(*said, (self.observation_close, False)))

    def placed(self, observation: Text) -> Text:
        """An observation as what it is here: inline text, or a message of the user."""
        return UserMessage(observation) if self.as_messages and observation else tuple(observation)
