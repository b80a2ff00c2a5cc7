"""Which episodes of an evaluation are looked at or exported: one meaning of every name, wherever it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from at2po_agent.judge.metrics import malformed
from at2po_agent.judge.records import EpisodeRecord

Verdict = Literal["correct", "wrong", "malformed", "error"]

FILTERS: Mapping[str, Callable[[EpisodeRecord], bool]] = {
    "correct": lambda episode: episode.em == 1,
    "wrong": lambda episode: episode.error is None and episode.em != 1,
    "malformed": lambda episode: malformed(episode),
    "error": lambda episode: episode.error is not None,
}
"""By name. They may overlap: an episode that a malformed turn ended is wrong too."""


def verdict(episode: EpisodeRecord) -> Verdict:
    """The one word for an episode: what kept it from a score, from being right, or that it is right."""
    if episode.error is not None:
        return "error"
    if episode.em == 1:
        return "correct"
    return "malformed" if episode.ended == "malformed" else "wrong"
