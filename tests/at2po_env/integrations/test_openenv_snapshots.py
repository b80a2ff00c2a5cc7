from __future__ import annotations

import pytest

from at2po_env.errors import SnapshotError
from at2po_env.integrations.openenv_snapshots import Snapshots
from tests.helpers.env_doubles import make_env


def episodes(*task_ids: str):
    env = make_env()
    for task_id in task_ids:
        env.reset(options={"task_id": task_id})
        yield env.snapshot()


def test_an_id_brings_the_snapshot_back_and_tells_nothing_of_it():
    first, second = episodes("q1", "q2")
    kept, others = Snapshots(), Snapshots()
    name = kept.keep("train", first)
    assert kept.find(name).snapshot is first and kept.find(name).split == "train"
    assert kept.keep("train", first) == name != kept.keep("dev", first)
    # Of equal episodes other servers give other ids: no digest can be compared with a guess of the answer.
    assert others.keep("train", first) != name and first.digest not in name
    assert kept.keep("train", second) != name


@pytest.mark.parametrize("change", [lambda name: name[:-1], lambda name: name + "0", lambda name: name.upper() + "-"])
def test_a_changed_id_is_refused(change):
    (first,) = episodes("q1")
    kept = Snapshots()
    with pytest.raises(SnapshotError, match="there is no snapshot"):
        kept.find(change(kept.keep("train", first)))


def test_the_snapshot_that_was_used_longest_ago_makes_room():
    first, second, third = episodes("q1", "q2", "q3")
    kept = Snapshots(most=2)
    names = [kept.keep("train", first), kept.keep("train", second)]
    kept.find(names[0])
    kept.keep("train", third)
    assert len(kept) == 2 and kept.find(names[0]).snapshot is first
    with pytest.raises(SnapshotError):
        kept.find(names[1])


def test_a_snapshot_that_is_not_used_expires():
    now = [0.0]
    first, second = episodes("q1", "q2")
    kept = Snapshots(seconds=10, clock=lambda: now[0])
    name = kept.keep("train", first)
    now[0] = 9
    kept.find(name)
    now[0] = 18
    kept.find(name)
    now[0] = 30
    with pytest.raises(SnapshotError, match="was not used for 10 s"):
        kept.find(name)
    kept.keep("train", second)
    assert len(kept) == 1
