"""Tasks of a ``ToolEnv``, what an episode of one may do, and what its reward is a function of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from at2po_env.tasks import Task
from at2po_env.tool_dialects import TOOL_DIALECT, ToolDialect
from search_backend.components import Origin

EndReason = Literal["answer", "done", "malformed", "turn_limit", "length_limit"]


@dataclass(frozen=True)
class ToolTask(Task):
    """A task of a ``ToolEnv``: what the model is asked (``text``), and the state that its episodes begin with."""

    state: Mapping[str, Any] = field(default_factory=dict, hash=False)  # JSON values


@dataclass(frozen=True)
class Finished:
    """An episode that has ended, as rewards see it."""

    task: ToolTask
    ended: str  # answer; done (a tool of ``ends`` was called); malformed; turn_limit; length_limit
    answer: str | None  # where it ended with one
    state: Mapping[str, Any]  # in the end
    turns: int


Reward = Callable[[Finished], float]


@dataclass(frozen=True)
class ToolRules:
    """Rules of an episode.

    A turn is, in this order of precedence: an answer, which ends the episode; malformed, which ends it too unless
    ``on_malformed`` is ``"continue"``; or a call. An unknown tool, wrong arguments, an exception, a time-out and a
    result that is too long have observations that say so, and the episode goes on.
    """

    dialect: ToolDialect
    max_turns: int = 8
    max_result_chars: int = 4000
    timeout: float | None = None  # seconds of a call; see ``Tool.acall`` for what it cannot stop
    on_malformed: Literal["end", "continue"] = "end"
    ends: tuple[str, ...] = ()  # tools whose call ends the episode
    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False)  # of components that are not built in

    @classmethod
    def of(cls, dialect: str | Mapping[str, Any] | ToolDialect = "tags", **rest: Any) -> ToolRules:
        """Rules from plain values, as configurations give them.

        Args:
            dialect: a name, a mapping of ``name`` and the fields that differ, or a dialect; see
                ``search_backend.components``.
            **rest: the other fields.

        Raises:
            ValueError: there is no such dialect, or a value is out of its range.
        """
        spoken = TOOL_DIALECT.made(dialect, "dialect")
        origins = {"dialect": origin} if (origin := TOOL_DIALECT.origin(dialect)) else {}
        return cls(spoken, origins=origins, **rest)

    @property
    def limits(self) -> dict[str, Any]:
        """The limits by name, as manifests hold them."""
        return {
            "max_turns": self.max_turns,
            "max_result_chars": self.max_result_chars,
            "timeout": self.timeout,
            "on_malformed": self.on_malformed,
        }

    def __post_init__(self) -> None:
        # A configuration has a list here.
        object.__setattr__(self, "ends", tuple(self.ends))
        for name in ("max_turns", "max_result_chars"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {self.timeout!r}")
        if self.on_malformed not in ("end", "continue"):
            raise ValueError(f"on_malformed must be 'end' or 'continue', got {self.on_malformed!r}")
