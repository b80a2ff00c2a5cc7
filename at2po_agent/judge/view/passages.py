"""Split a rendered search result back into its passages.

An observation is kept as the text that the model read. Every dialect writes a passage as its opening, the title, what
closes the title, and the text, so the passages are found by looking for the titles that the search returned, in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from at2po_env.dialects import DIALECTS, Dialect
from at2po_env.rendering import neutralise

# TAGS writes passages as CHAT does, and BARE's openings are so short that they occur everywhere: it is tried last.
_TRIED = sorted(DIALECTS.values(), key=lambda dialect: -len(dialect.hit_open))


@dataclass(frozen=True)
class Shown:
    """One search hit, and its text as it was shown; None where there was no room for it."""

    title: str
    score: float | None
    body: str | None


def shown_passages(observation: str, hits: Sequence[Mapping[str, Any]]) -> tuple[Shown, ...]:
    """The hits of a turn with their texts from its observation, in the order of the search.

    Args:
        observation: what the model read after the turn.
        hits: id, title and score of every passage that was found.
    """
    bodies: list[str] = []
    for dialect in _TRIED:
        found = _bodies(dialect, observation, hits)
        if len(found) > len(bodies):
            bodies = found
    padded = [*bodies, *[None] * (len(hits) - len(bodies))]
    return tuple(
        Shown(str(hit.get("title") or ""), hit.get("score"), body) for hit, body in zip(hits, padded, strict=True)
    )


def _bodies(dialect: Dialect, observation: str, hits: Sequence[Mapping[str, Any]]) -> list[str]:
    """The texts of the first hits, as many as this dialect explains."""
    starts: list[tuple[int, int]] = []
    position = 0
    for rank, hit in enumerate(hits, start=1):
        opening = dialect.hit_open.replace("{n}", str(rank)) + neutralise(str(hit.get("title") or ""))
        opening += dialect.title_close.rstrip()
        start = observation.find(opening, position)
        if start == -1:
            break
        position = start + len(opening)
        starts.append((start, position))
    if not starts:
        return []
    ends = [*(start for start, _ in starts[1:]), len(observation)]
    *bodies, last = (observation[text:end].strip() for (_, text), end in zip(starts, ends, strict=True))
    return [*bodies, last.removesuffix(dialect.result_close.strip()).strip()]
