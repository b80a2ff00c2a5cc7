from __future__ import annotations

from at2po_env import DataError, DataNotFound, EnvError, SnapshotError


def test_whoever_catches_the_base_catches_all_that_the_user_can_put_right() -> None:
    assert all(issubclass(kind, EnvError) for kind in (DataError, DataNotFound, SnapshotError))
