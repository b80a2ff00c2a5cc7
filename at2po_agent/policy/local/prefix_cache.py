"""Keys and values of finished sequences, found again by their longest common prefix with a new prompt."""

from __future__ import annotations

from collections import OrderedDict

import torch

from at2po_agent.policy.prefixes import Ids, Prefixes


class PrefixCache:
    """A bounded store of key/value states, least recently used out first.

    Args:
        max_bytes: states beyond this size are dropped.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._prefixes = Prefixes()
        self._states: OrderedDict[Ids, torch.Tensor] = OrderedDict()

    def match(self, ids: Ids) -> tuple[int, torch.Tensor | None]:
        """The longest prefix of ``ids`` that is stored: its length, and states of at least that length."""
        length, best = self._prefixes.match(ids)
        if not length:
            return 0, None
        self._states.move_to_end(best)
        return length, self._states[best]

    def insert(self, ids: Ids, states: torch.Tensor) -> None:
        """Store the states of ``ids``; a stored prefix of them is no longer needed."""
        size = states.nbytes
        if size > self.max_bytes or ids in self._states:
            return
        shorter = self._prefixes.insert(ids)
        if shorter is not None:
            self.bytes -= self._states.pop(shorter).nbytes
        self._states[ids] = states
        self.bytes += size
        while self.bytes > self.max_bytes:
            oldest, dropped = self._states.popitem(last=False)
            self._prefixes.remove(oldest)
            self.bytes -= dropped.nbytes

    def clear(self) -> None:
        """Forget everything: the weights changed."""
        self._prefixes.clear()
        self._states.clear()
        self.bytes = 0
