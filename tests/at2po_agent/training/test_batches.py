from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from at2po_agent.method.groups import Rollout
from at2po_agent.method.tree import TurnTree
from at2po_agent.training.batches import Batch, read_batch, step_timings
from search_backend.outside import Unusable
from tests.helpers.drawn_trees import draw


def sampled(*versions: int) -> TurnTree:
    """A chain whose turns were sampled by these versions."""
    tree = draw(range(-1, len(versions)), [0.1 * n for n in range(len(versions) + 1)])
    for node, version in zip(tree.nodes[1:], versions, strict=True):
        node.version = version
    tree[len(versions)].info = {"em": 1.0, "prediction": "Łódź"}
    tree[len(versions)].reward = 1 / 3
    return tree


BATCH = Batch(
    Rollout((sampled(3, 4), sampled(4)), {"q": "too long"}, 2, 5, equal=(sampled(4),), surplus=(sampled(3),)),
    {"prefilled_tokens": 7, "cached_share": None},
    seconds=2.0,
    waited=0.5,
)


def test_a_stored_batch_is_the_batch_but_for_its_time(tmp_path: Path) -> None:
    file = tmp_path / "batch"
    file.write_bytes(BATCH.pack())
    found = read_batch(file)
    assert found.pack() == BATCH.pack() and (found.seconds, found.waited) == (0.0, 0.0)
    assert found.rollout.generated_tokens == BATCH.rollout.generated_tokens == 5
    assert [node for tree in found.rollout.trees for node in tree.nodes] == [
        node for tree in BATCH.rollout.trees for node in tree.nodes
    ]
    assert replace(found.rollout, trees=(), equal=(), surplus=()) == replace(
        BATCH.rollout, trees=(), equal=(), surplus=()
    )


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", BATCH.pack()[:-9], zstandard.compress(b"{}"), zstandard.compress(b"[1]"), zstandard.compress(b"x")],
)
def test_what_is_no_batch_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "batch").write_bytes(data)
    with pytest.raises(Unusable, match="batch: not the trees of a step: "):
        read_batch(tmp_path / "batch")


def test_staleness_is_that_of_the_oldest_turn() -> None:
    assert BATCH.staleness(4) == 1 and Batch(Rollout((sampled(4),), {}, 0, 1), {}).staleness(4) == 0
    assert Batch(Rollout((), {}, 0, 1), {}).staleness(4) is None


def test_a_step_is_rollout_and_update_without_what_they_have_in_common() -> None:
    first = Batch(BATCH.rollout, {}, seconds=3.0, waited=3.0)
    assert step_timings(9.0, [first, BATCH]) == {"step": 9.0, "rollout": 5.0, "update": 5.5, "overlap": 1.5}
    assert step_timings(9.0, [first]) == {"step": 9.0, "rollout": 3.0, "update": 6.0, "overlap": 0.0}
