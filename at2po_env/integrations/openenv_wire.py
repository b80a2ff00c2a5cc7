"""Messages between an OpenEnv server of ours and its clients.

An action is the text of one model turn. An observation is the text that the model reads next; its ``metadata`` is the
``info`` of the environment. Clients that reset with ``rendered=True`` also get ``metadata["at2po"]``: the observation
in segments, so that its token ids are those of an environment in process, and the id of the snapshot to fork from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from openenv.core.env_server.types import Action, Observation, State
from pydantic import Field

from at2po_env.errors import EnvError, SnapshotError, ToolUnavailable
from at2po_env.state import Text, ToolMessage, ToolPrompt, UserMessage, text_from_json, text_to_json
from search_backend.base import SearchUnavailable

OURS = "at2po"
"""The key of ``metadata`` that is no part of the environment's ``info``."""

_UNAVAILABLE, _BAD_SNAPSHOT, _LOST = "unavailable: ", "snapshot: ", "session: "

_KINDS: Mapping[str, type[tuple[Any, ...]]] = {"user": UserMessage, "tool": ToolMessage, "prompt": ToolPrompt}


class TurnAction(Action):
    """One model turn."""

    text: str = Field(description="The whole turn: thoughts, and one action in the tags that the prompt names.")
    end: Literal["length_limit", "turn_limit"] | None = Field(
        default=None, description="End the episode for this reason in place of taking the turn: no room to generate."
    )


class TurnObservation(Observation):
    """The observation for the model; empty when the episode has ended."""

    text: str = Field(description="The prompt after a reset, after a step what the turn brought.")


class TurnState(State):
    """The state of a session."""

    task_id: str | None = Field(default=None, description="The task of the episode.")
    split: str | None = Field(default=None, description="The split of the task.")
    snapshot: str | None = Field(default=None, description="An id that reset(snapshot=…) goes on from, in any session.")
    ended: str | None = Field(default=None, description="Why the episode has ended; null while it goes on.")


def text_to_wire(text: Text) -> dict[str, Any]:
    """A rendered text as JSON values, with what kind of message it is."""
    kind = next((name for name, form in _KINDS.items() if isinstance(text, form)), "inline")
    tools = list(text.tools) if isinstance(text, ToolPrompt) else []
    return {"kind": kind, "segments": text_to_json(text), "tools": tools}


def text_from_wire(data: Mapping[str, Any]) -> Text:
    """Read :func:`text_to_wire` back."""
    segments = text_from_json(data["segments"])
    if data["kind"] == "prompt":
        return ToolPrompt.of(segments, tuple(data["tools"]))
    return _KINDS[data["kind"]](segments) if data["kind"] in _KINDS else segments


class SessionLost(ToolUnavailable):
    """The connection, or the episode on it, is gone: a new session can go on from a snapshot."""


@contextmanager
def told() -> Iterator[None]:
    """Begin the errors that clients tell apart with a word, as OpenEnv gives all of them one code."""
    try:
        yield
    except SessionLost as error:
        raise RuntimeError(f"{_LOST}{error}") from error
    except (SearchUnavailable, ToolUnavailable) as error:
        raise RuntimeError(f"{_UNAVAILABLE}{error}") from error
    except SnapshotError as error:
        raise RuntimeError(f"{_BAD_SNAPSHOT}{error}") from error


def error_from_wire(error: Exception) -> EnvError:
    """Translate an exception of OpenEnv's client into the error of ours that it stands for."""
    said = str(error).removeprefix("Server error: ")
    # Everything but an answer of the server's is a connection that was lost, refused or too slow.
    if not isinstance(error, RuntimeError) or said.startswith(_LOST):
        return SessionLost(said.removeprefix(_LOST) or type(error).__name__)
    if "CAPACITY_REACHED" in said or said.startswith(_UNAVAILABLE):
        return ToolUnavailable(said.removeprefix(_UNAVAILABLE))
    return SnapshotError(said.removeprefix(_BAD_SNAPSHOT)) if said.startswith(_BAD_SNAPSHOT) else EnvError(said)
