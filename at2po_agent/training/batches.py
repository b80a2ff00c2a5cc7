"""The trees of a training step as they were sampled, and how a checkpoint stores those that are not trained on yet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from at2po_agent.atomic_files import plain_json
from at2po_agent.method.groups import Rollout
from at2po_agent.method.tree import TurnTree
from at2po_agent.training.stored_files import read_packed
from at2po_agent.training.stored_types import check_batch
from search_backend.outside import Unusable, read_json


@dataclass(frozen=True)
class Batch:
    """The trees of a step."""

    rollout: Rollout
    engine: Mapping[str, float | None]  # metrics of the engine's work on them
    seconds: float = 0.0  # in which they were grown
    waited: float = 0.0  # of these, those in which the trainer only waited for them

    def staleness(self, version: int) -> int | None:
        """Steps from the weights that sampled the oldest turn to those of ``version``; None where there is no turn."""
        turns = [node.version for tree in self.rollout.trees for node in tree.nodes[1:]]
        return version - min(turns) if turns else None

    def pack(self) -> bytes:
        """The batch as ``read_batch`` reads it, without the environment's snapshots, which training does not need."""
        rollout = self.rollout
        stored = {
            "trees": _stored(rollout.trees),
            "equal": _stored(rollout.equal),
            "surplus": _stored(rollout.surplus),
            "dropped": rollout.dropped,
            "lost_paths": rollout.lost_paths,
            "questions": rollout.questions,
            "engine": dict(self.engine),
        }
        text = json.dumps(stored, ensure_ascii=False, default=plain_json)
        return zstandard.ZstdCompressor(level=6).compress(text.encode())


def read_batch(file: Path) -> Batch:
    """Open what ``pack`` made; its seconds were counted when it was sampled.

    Raises:
        Unusable: it cannot be read, or is no batch; the message begins with its path.
    """
    try:
        stored = check_batch(read_json(read_packed(file)))
        for part in ("trees", "equal", "surplus"):
            stored[part] = tuple(map(TurnTree.from_json, stored[part]))
    except (OSError, EOFError, zstandard.ZstdError, ValueError, Unusable) as error:
        raise Unusable(f"{file}: not the trees of a step: {error}") from error
    engine = stored.pop("engine")
    return Batch(Rollout(**stored), engine)


def step_timings(seconds: float, sampled: Sequence[Batch]) -> dict[str, float]:
    """Timings of a step of ``seconds`` in which the batches ``sampled`` were grown, those of the next step too.

    ``step = rollout + update − overlap``; only the last of them is grown beside other work.
    """
    rollout = sum((batch.seconds for batch in sampled), start=0.0)
    waited = sum((batch.waited for batch in sampled), start=0.0)
    return {"step": seconds, "rollout": rollout, "update": seconds - waited, "overlap": max(0.0, rollout - waited)}


def _stored(trees: Sequence[TurnTree]) -> list[dict[str, Any]]:
    return [tree.to_json() for tree in trees]
