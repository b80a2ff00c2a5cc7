"""JSON from outside in which one part is something else: what a broken service, or a hostile one, may send."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Path = tuple[Any, ...]
_REMOVED = object()


def deep(levels: int) -> Any:
    """A list in a list in a list …"""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


hostile_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=5),
    st.sampled_from([10**400, -(10**400), float("nan"), float("inf"), "\ud800", "\x00", [], {}, [[]], {"": None}]),
    st.builds(deep, st.integers(1, 50)),
)


_NUMBERS = st.sampled_from([-1, 2**53, 10**400, float("nan"), float("inf"), 1e308, -1e308, 0.5])
_ALIKE: dict[type, st.SearchStrategy[Any]] = {
    str: st.sampled_from(["\ud800", "a\udfffb", "", "\x00", "\x1b[31m", "x" * 5000]),
    int: _NUMBERS,
    float: _NUMBERS,
    bool: st.sampled_from(["no", 0, 1, None]),
}


def part_at(value: Any, path: Path) -> Any:
    """The part of a JSON value at an address."""
    for key in path:
        value = value[key]
    return value


def paths(value: Any) -> Iterator[Path]:
    """The addresses of all parts of a JSON value, of itself first."""
    yield ()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from ((key, *rest) for rest in paths(part))


def replaced(value: Any, path: Path, part: Any) -> Any:
    """A copy in which the part at the path is another one, or is missing."""
    if not path:
        return {} if part is _REMOVED else part
    made = copy.deepcopy(value)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    if part is _REMOVED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = part
    return made


def with_one_part_replaced(value: Any) -> st.SearchStrategy[Any]:
    """The value with one part that is missing or something else.

    Where the part is a text or a number, others of its kind come as often as anything: what has another type is mostly
    seen by the first who uses it, and what has the right one is not.
    """

    def replace(path: Path) -> st.SearchStrategy[Any]:
        part = part_at(value, path)
        alike = next((values for kind, values in _ALIKE.items() if type(part) is kind), st.just(_REMOVED))
        return st.one_of(hostile_values, st.just(_REMOVED), alike).map(lambda other: replaced(value, path, other))

    return st.sampled_from(list(paths(value))).flatmap(replace)


_ONE_OF_EACH = (
    None,
    True,
    -1,
    7,
    2**53,
    10**250,
    0.5,
    float("nan"),
    1e308,
    "x",
    "\ud800",
    "x" * 5000,
    [],
    [7],
    {},
    {"a": 7},
)


def with_each_part_replaced(value: Any) -> Iterator[Any]:
    """The value with every part in turn missing, or one value of each kind: few enough to try them all."""
    for path in paths(value):
        for other in (_REMOVED, *_ONE_OF_EACH):
            yield replaced(value, path, other)
