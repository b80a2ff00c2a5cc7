from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_env.errors import SnapshotError
from at2po_env.snapshots import chain, finite, one_of, read_form, typed


@dataclass(frozen=True)
class Point:
    digest: str


def read(data: Any) -> Point:
    return read_form(data, "point/1", lambda: Point(chain(typed(data["x"], str))))


@given(one=st.lists(st.text(max_size=3), max_size=4), two=st.lists(st.text(max_size=3), max_size=4))
def test_no_two_lists_of_strings_run_together(one: list[str], two: list[str]) -> None:
    assert (chain(*one) == chain(*two)) == (one == two)


@given(parts=st.lists(st.text(st.characters(), max_size=3), max_size=4))
def test_digests_of_stored_snapshots_stay_what_they_are(parts: list[str]) -> None:
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    expected = hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in encoded)).hexdigest()
    assert chain(*parts) == expected


def test_a_form_is_read_and_whatever_is_wrong_with_it_is_one_error() -> None:
    form = {"format": "point/1", "x": "a", "digest": chain("a")}
    assert read(form) == Point(chain("a"))
    for wrong, said in (
        ({**form, "format": "point/2"}, "format is 'point/2', this version reads 'point/1'"),
        ({**form, "x": "b"}, "it was changed"),
        ({**form, "x": 1}, "1 is not str"),
        ({}, "KeyError"),
        ([], "TypeError"),
    ):
        with pytest.raises(SnapshotError, match=said):
            read(wrong)


def test_types_are_exact() -> None:
    assert typed(1, int, str) == 1 and finite(1) == 1.0 and one_of("a", Literal["a", "b"]) == "a"
    for check in (
        lambda: typed(True, int),
        lambda: finite(float("inf")),
        lambda: finite(True),
        lambda: one_of("c", Literal["a", "b"]),
    ):
        with pytest.raises(TypeError):
            check()
