"""Fields of dataclasses are described by the comments beside and above them."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field
from typing import Any, Literal

import fields
import pytest


@dataclass
class Base:
    inherited: int = 1  # of the base


@dataclass
class Example(Base):
    plain: str = ""
    beside: float | None = None  # seconds
    # Stands above,
    # on two lines.
    above: tuple[str, ...] = ()
    # Above it.
    both: dict[str, Any] = field(default_factory=dict)  # and beside it
    several: Literal["a", "b"] = field(  # the first line
        default="a",  # the second
    )

    def method(self) -> None:
        pass  # of no field


def test_comments_are_meanings() -> None:
    assert fields.meanings(Example) == {
        "beside": "seconds",
        "above": "Stands above, on two lines.",
        "both": "Above it. and beside it",
        "several": "the first line the second",
    }


def test_inherited_fields_come_first_with_their_own_comments() -> None:
    first, second, *_ = fields.described(Example)
    assert (first.name, first.kind, first.default, first.meaning) == ("inherited", int, 1, "of the base")
    assert (second.name, second.meaning) == ("plain", "")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (bool, "true or false"),
        (float | None, "number or null"),
        (tuple[str, ...], "list of text"),
        (Literal["a", "b"], "`a` or `b`"),
        (dict[str, Any], "mapping"),
        (dict[str, list[str]], "mapping of text to list of text"),
    ],
)
def test_types_are_in_words(kind: Any, words: str) -> None:
    assert fields.words(kind) == words


@pytest.mark.parametrize(
    ("default", "shown"),
    [
        (MISSING, "required"),
        ("???", "required"),
        ("", '`""`'),
        (None, "`null`"),
        (1e-6, "`1e-06`"),
        (True, "`true`"),
        ((), "`[]`"),
        (({},), "`[{}]`"),
    ],
)
def test_defaults_are_as_yaml_has_them(default: Any, shown: str) -> None:
    assert fields.shown(default) == shown
