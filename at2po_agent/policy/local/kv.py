"""``KVSlots``: keys and values of the running sequences in one preallocated tensor, one slot per sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from at2po_agent.policy.architecture import Heads
from at2po_agent.policy.base import PolicyError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_COLUMNS = 64  # columns are added in blocks of this many


class KVSlots:
    """A transformers cache whose rows start and end at different times.

    ``states`` is ``[layers, 2, slots, heads, columns, head_dim]`` (keys, values). Sequences are aligned at column 0.
    Nothing is ever uninitialised: a masked column still takes part as 0 · value, and 0 · NaN is NaN.
    """

    def __init__(self, config: PreTrainedConfig, dtype: torch.dtype, device: torch.device) -> None:
        _, heads, dim = Heads.of(config)
        self.states = torch.zeros(config.num_hidden_layers, 2, 0, heads, 0, dim, dtype=dtype, device=device)
        self._slots = slice(0, 0)
        self._places = torch.zeros(0, dtype=torch.long, device=device)  # [N · heads] where to write
        self._real: torch.Tensor | None = None
        self._seen = 0

    def reserve(self, slots: int, columns: int) -> None:
        """Make room for ``slots`` sequences of ``columns`` tokens."""
        layers, two, had_slots, heads, had_columns, dim = self.states.shape
        if slots <= had_slots and columns <= had_columns:
            return
        columns = max(had_columns, -(-columns // _COLUMNS) * _COLUMNS)
        grown = self.states.new_zeros(layers, two, max(slots, had_slots), heads, columns, dim)
        grown[:, :, :had_slots, :, :had_columns] = self.states
        self.states = grown

    def aim(
        self, slots: slice, rows: torch.Tensor, columns: torch.Tensor, real: torch.Tensor | None, seen: int
    ) -> None:
        """Choose where the next forward pass writes and what it reads.

        Args:
            slots: of the rows.
            rows: ``[N]`` the slot of every token.
            columns: ``[N]`` its column.
            real: ``[N]`` which tokens of the padded rows they are, for ``update``; None: all.
            seen: columns that are read.
        """
        heads, capacity = self.states.shape[3:5]
        of_heads = rows[:, None] * heads + torch.arange(heads, device=rows.device)
        self._places = (of_heads * capacity + columns[:, None]).flatten()
        self._slots, self._real, self._seen = slots, real, seen

    def read(self, slot: int, length: int) -> torch.Tensor:
        """A copy of the first ``length`` states of a slot; ``[layers, 2, heads, length, head_dim]``."""
        return self.states[:, :, slot, :, :length].clone()

    def write(self, slot: int, states: torch.Tensor, length: int) -> None:
        """Set the first ``length`` states of a slot."""
        self.states[:, :, slot, :, :length] = states[:, :, :, :length]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` states of one slot to another."""
        self.states[:, :, target, :, :length] = self.states[:, :, source, :, :length]

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by every attention layer: store its new states, return all it may look at.

        Args:
            key: ``[rows, heads, tokens, head_dim]``.
            value: likewise.
            layer: index of the layer.
            args: what some architectures pass besides.
            kwargs: likewise.

        Raises:
            PolicyError: the layers of this architecture do not have one shape.
        """
        heads, dim = self.states.shape[3], self.states.shape[5]
        if key.shape != value.shape or key.shape[1] != heads or key.shape[3] != dim:
            raise PolicyError(
                f"layer {layer} has keys {list(key.shape)} and values {list(value.shape)}, the model's config says "
                f"{heads} heads of {dim}: the local engine does not support this architecture"
            )
        keys, values = (states.transpose(1, 2).flatten(0, 1) for states in (key, value))
        if self._real is not None:
            keys, values = keys.index_select(0, self._real), values.index_select(0, self._real)
        return self.put(keys, values, layer)

    def put(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the new states of a layer, ``[N, heads, head_dim]`` each, and return all that it may look at.

        Returns:
            keys and values, ``[rows, heads, seen, head_dim]``.
        """
        found = []
        for states, new in zip(self.states[layer], (keys, values), strict=True):
            states.view(-1, states.shape[-1]).index_copy_(0, self._places, new.reshape(-1, states.shape[-1]))
            found.append(states[self._slots, :, : self._seen])
        return found[0], found[1]

    def get_seq_length(self, layer: int = 0) -> int:
        """Unused: positions are always passed; transformers asks for it."""
        return 0
