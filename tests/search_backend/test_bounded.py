from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_backend.bounded import read_json


@pytest.mark.fault("item 23: JSON that is none, nested too deep, or of numbers and letters that are none")
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"NaN", b"[-Infinity]", b"1e400", b'"\\ud800"', b'{"\\udfff": 1}', b"[" * 10_000, b'{"x":' * 10_000],
)
def test_what_is_no_json_is_a_value_error(content):
    with pytest.raises(ValueError):
        read_json(content)


@given(st.recursive(st.none() | st.integers() | st.floats() | st.text(st.characters()), lambda part: st.lists(part)))
def test_json_is_read_as_it_was_written(value):
    try:
        assert read_json(json.dumps(value).encode()) == value
    except ValueError:
        flat = json.dumps(value)
        assert "NaN" in flat or "Infinity" in flat or "\\ud" in flat or math.inf == value
