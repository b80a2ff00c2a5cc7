"""Random packed trees, as the parents of their tokens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

Ints = npt.NDArray[np.int64]


def depth_first(parents: list[int]) -> tuple[Ints, Ints]:
    """Positions and ends of trees given by the parent of every token, −1 for a root, in depth-first order."""
    n = len(parents)
    positions, ends = np.zeros(n, dtype=np.int64), np.arange(1, n + 1)
    for i, parent in enumerate(parents):
        positions[i] = 0 if parent < 0 else positions[parent] + 1
    for i in reversed(range(n)):
        if parents[i] >= 0:
            ends[parents[i]] = max(ends[parents[i]], ends[i])
    return positions, ends


@st.composite
def forests(draw: st.DrawFn) -> list[int]:
    """Random depth-first parents: a token goes on from any token of the present path, or begins a new tree."""
    parents: list[int] = []
    path: list[int] = []
    for i in range(draw(st.integers(1, 120))):
        if draw(st.integers(0, 5)) == 0:
            path = path[: draw(st.integers(0, len(path)))]
        parents.append(path[-1] if path else -1)
        path.append(i)
    return parents
