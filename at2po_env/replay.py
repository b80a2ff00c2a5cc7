"""Episodes that are played again: whether the same actions brought the same."""

from __future__ import annotations

import json

from at2po_env.episodes import Episode
from at2po_env.errors import SnapshotError
from at2po_env.rendering import cut
from at2po_env.state import plain

_SHOWN = 200  # characters of an observation in an error


class ReplayDiverged(SnapshotError):
    """The same actions did not bring the same observations and rewards."""


def check_replayed(now: Episode, then: Episode, who: str, needed: str) -> None:
    """Check that an episode that was played again is the one that it was.

    Args:
        now: as it came this time.
        then: as it was.
        who: played it, for the error.
        needed: what replay needs, as a sentence of the error.

    Raises:
        ReplayDiverged: they differ in their last turn.
    """
    if now == then or (then.closed is not None and now.turn == then.turn):
        return
    raise ReplayDiverged(
        f"{who}: the same actions went another way {_where(then)}: {_seen(then)} before, {_seen(now)} now. {needed}"
    )


def _where(episode: Episode) -> str:
    return "at the first observation" if episode.turn is None else f"at turn {episode.depth}"


def _seen(episode: Episode) -> str:
    if episode.turn is None:
        return repr(cut(json.loads(episode.state)["observation"], _SHOWN))
    ended = "" if episode.ended is None else f", ended {episode.ended}"
    return f"{cut(plain(episode.turn.observation), _SHOWN)!r} (reward {episode.turn.reward:g}{ended})"
