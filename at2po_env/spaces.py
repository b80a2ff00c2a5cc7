"""A space of unicode texts. Gymnasium's own ``Text`` lists its characters, and all of Unicode costs it seconds."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Space, Tuple
from gymnasium.vector.utils import batch_space

_SAMPLED = ((0x20, 0x7F), (0x20, 0x7F), (0xA1, 0x250), (0x370, 0x400), (0x4E00, 0x5000), (0x1F600, 0x1F640))


class UnicodeText(Space[str]):
    """Every Python string of at most ``max_length`` characters (None: of any length), lone surrogates included."""

    def __init__(self, max_length: int | None = None, seed: int | np.random.Generator | None = None) -> None:
        if max_length is not None and max_length < 0:
            raise ValueError(f"max_length must be >= 0, got {max_length}")
        self.max_length = max_length
        super().__init__(seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Texts of any length have no flat array form."""
        return False

    def sample(self, mask: None = None, probability: None = None) -> str:
        """Return up to 64 characters of some scripts; well-formed Unicode. Masks do not exist for this space."""
        if mask is not None or probability is not None:
            raise ValueError("UnicodeText has no masked sampling")
        longest = 64 if self.max_length is None else min(64, self.max_length)
        length = int(self.np_random.integers(longest + 1))
        scripts = self.np_random.integers(len(_SAMPLED), size=length)
        return "".join(chr(int(self.np_random.integers(*_SAMPLED[script]))) for script in scripts)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a string that is short enough."""
        return isinstance(x, str) and (self.max_length is None or len(x) <= self.max_length)

    def to_jsonable(self, sample_n: Iterable[str]) -> list[str]:
        """Return the texts as they are."""
        return list(sample_n)

    def from_jsonable(self, sample_n: Sequence[Any]) -> list[str]:
        """Return the texts as they are."""
        return [str(text) for text in sample_n]

    def __repr__(self) -> str:
        return f"UnicodeText(max_length={self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnicodeText) and self.max_length == other.max_length


@batch_space.register(UnicodeText)
def _batch_unicode_text(space: UnicodeText, n: int = 1) -> Tuple[Any]:
    # As Gymnasium batches its own spaces: copies with streams of their own, drawn without moving the original's.
    seeds = copy.deepcopy(space.np_random).integers(2**31, size=n)
    return Tuple([UnicodeText(space.max_length, seed=int(seed)) for seed in seeds])
