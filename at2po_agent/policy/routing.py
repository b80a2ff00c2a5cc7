"""Which of several servers a request goes to: the one that has the tree's prefix in its cache.

What siblings and later turns share is their own tree's path; different trees share no more than the instructions,
which every server has in its cache after its first request. So a tree has a home, the server that was least busy when
the tree began, and all its requests go there. A home is known by the tree's key: unlike the longest common prefix with
what each server was sent (SGLang's router), that needs no guess at what a server has evicted, and shared instructions
cannot draw all trees to one server.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from at2po_agent.policy.base import Request

_MOST_HOMES = 65536  # far more than the trees that grow at the same time


class Place(Protocol):
    """What requests can be sent to."""

    running: int  # requests under way


P = TypeVar("P", bound=Place)


def tree_of(request: Request) -> tuple[int, ...]:
    """The tree that a request belongs to: ``grow`` puts path and turn last in the key."""
    return request.key[:-2] or request.key


class Homes(Generic[P]):
    """Remembers the home of every tree, the least recently used forgotten first."""

    def __init__(self) -> None:
        self._homes: OrderedDict[tuple[int, ...], P] = OrderedDict()

    def choose(self, request: Request, usable: Sequence[P]) -> P:
        """The home of the request's tree; where that is not usable, the tree moves to the least busy place."""
        tree = tree_of(request)
        home = self._homes.get(tree)
        if home is None or home not in usable:
            home = min(usable, key=lambda place: place.running)
        self._homes[tree] = home
        self._homes.move_to_end(tree)
        if len(self._homes) > _MOST_HOMES:
            self._homes.popitem(last=False)
        return home
