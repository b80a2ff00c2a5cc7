"""Where requests of trees go."""

from __future__ import annotations

from dataclasses import dataclass

from at2po_agent.policy.base import Request
from at2po_agent.policy.sglang.fleet import Homes, tree_of


@dataclass(eq=False)
class Place:
    running: int = 0


def ask(tree: int, path: int, turn: int) -> Request:
    return Request((1,), 1, (0, 5, tree, path, turn))


def test_a_tree_is_known_by_its_key_whatever_the_path_and_turn() -> None:
    assert tree_of(ask(3, 0, 0)) == tree_of(ask(3, 7, 4)) != tree_of(ask(4, 0, 0))
    assert tree_of(Request((1,), 1, (9,))) == (9,)


def test_a_tree_begins_where_least_is_running_stays_there_and_moves_only_if_it_must() -> None:
    busy, idle = Place(5), Place(2)
    homes: Homes[Place] = Homes()
    assert homes.choose(ask(0, 0, 0), (busy, idle)) is idle
    idle.running = 50
    assert homes.choose(ask(0, 3, 2), (busy, idle)) is idle
    assert homes.choose(ask(1, 0, 0), (busy, idle)) is busy
    assert homes.choose(ask(0, 3, 3), (busy,)) is busy
    assert homes.choose(ask(0, 3, 4), (busy, idle)) is busy
