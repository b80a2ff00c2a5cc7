"""Bounds and checks for what comes from outside."""

import asyncio
import gzip
import json
import os
import re
import tracemalloc
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from search_backend.outside import (
    ERROR_BYTES,
    MOST_DEPTH,
    Body,
    Unusable,
    count,
    counts,
    finite,
    logprob,
    logprobs,
    read_error_body,
    read_fields,
    read_file,
    read_json,
    well_formed,
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner),
)


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@given(
    st.binary()
    | anything.map(json.dumps).map(str.encode)
    | st.integers(1, 3000).map(nested)
    | st.text(st.characters(categories=["Cs"]), min_size=1).map(json.dumps).map(str.encode)
)
@example(nested(MOST_DEPTH + 2))
@example(b'"\\ud800"')
def test_json_is_unusable_or_can_be_written_again(data):
    try:
        value = read_json(data)
    except Unusable as error:
        assert "\n" not in str(error)
    else:
        json.dumps(value, ensure_ascii=False).encode()
        assert len(data) - len(data.lstrip(b"[")) <= MOST_DEPTH + 1


@given(anything)
def test_values_come_through_but_for_surrogates(value):
    written = json.dumps(value)
    assert json.dumps(read_json(written), ensure_ascii=False) == well_formed(
        json.dumps(json.loads(written), ensure_ascii=False)
    )


@pytest.mark.parametrize(
    "text",
    [
        *('{"x":' + "[" * depth + "]" * depth + "}" for depth in (MOST_DEPTH, 2000, 100_000)),
        '{"a":' * 200 + "1" + "}" * 200,
        "9" * 301,
        "9" * 5000,
        "{",
        "",
        b"\xff",
        b"[\xe2\x82]",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_json_that_later_code_would_fail_at_is_unusable(text):
    with pytest.raises(Unusable):
        read_json(text)


def test_json_in_the_encodings_of_its_standard_is_read():
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert read_json('{"a": "é"}'.encode(encoding)) == {"a": "é"}
    assert read_json("[" * MOST_DEPTH + "]" * MOST_DEPTH)
    assert read_json(r'["\ud83d\ude00", "\uD800"]') == ["😀", "�"]


def test_surrogates_become_text_that_has_a_utf8_form():
    assert well_formed("\ud83d\ude00") == "😀"
    assert well_formed("a\ud800b\udc00") == "a�b�"
    assert well_formed("été") == "été"


def test_a_count_is_a_whole_number_below_2_to_the_53():
    assert [count(value, "n") for value in (0, 12, 12.0, 2**53 - 1)] == [0, 12, 12, 2**53 - 1]
    for value in (-1, 2**53, 10**400, 0.5, float("nan"), float("inf"), True, None, "1", [1]):
        with pytest.raises(Unusable, match="n is no count"):
            count(value, "n")


def test_numbers_are_finite_and_log_probabilities_at_most_0():
    assert (finite(3, "x"), logprob(-0.5, "x"), logprob(1e-7, "x"), logprob(-9999.0, "x")) == (3.0, -0.5, 1e-7, -9999.0)
    for value in (None, "x", True, [0], float("nan"), float("-inf"), 1e308, 0.5, -1e308):
        with pytest.raises(Unusable, match="x is no"):
            logprob(value, "x")


numbers = st.integers() | st.floats() | st.sampled_from([True, None, "1", [1], 10**400, 2**53, 0.05, -9999.0, -1e39])


@pytest.mark.parametrize(("all_of", "one"), [(counts, count), (logprobs, logprob)])
@given(values=st.lists(numbers) | st.lists(st.integers(0, 2**54)) | st.lists(st.floats(-1e40, 0.2)))
def test_many_values_are_checked_as_each_of_them_is(all_of, one, values):
    try:
        expected = tuple(one(value, "x") for value in values)
    except Unusable as error:
        with pytest.raises(Unusable, match=re.escape(str(error))):
            all_of(values, "x")
    else:
        assert all_of(values, "x") == expected


@given(st.binary() | anything.map(json.dumps).map(str.encode))
def test_fields_are_those_of_the_json_or_there_is_none(data):
    try:
        expected = read_json(data)
    except Unusable:
        return
    found = read_fields(data)
    # Whole numbers beyond 64 bits are floats there.
    assert json.dumps(found, default=str) == json.dumps(expected) or re.search(rb"\d{19}", data)


@given(st.binary(max_size=3000), st.sampled_from([None, zlib.compress, gzip.compress]), st.integers(1, 4000))
def test_a_body_is_as_long_as_it_may_be_or_unusable(data, pack, most):
    body = Body("gzip" if pack else "", most)
    packed = pack(data) if pack else data
    try:
        for at in range(0, len(packed), 100):
            body.add(packed[at : at + 100])
        assert body.end() == data
    except Unusable as error:
        assert "longer" in str(error)
        assert len(data) > most
        assert bytes(body.data) == data[:most]


@pytest.mark.fault("R4: a body that unpacks to gigabytes")
def test_a_packed_body_is_unpacked_no_further_than_its_bound():
    body, bomb = Body("gzip", ERROR_BYTES), gzip.compress(bytes(100_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(Unusable, match="longer than 65,536 bytes"):
            body.add(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert len(body.data) == ERROR_BYTES


def test_a_body_that_is_not_packed_as_it_says_is_unusable():
    with pytest.raises(Unusable, match="not asked for"):
        Body("br", 10)
    with pytest.raises(Unusable, match="unpacked"):
        Body("gzip", 10).add(b"no gzip")
    early = Body("gzip", 1000)
    early.add(gzip.compress(os.urandom(500))[:300])
    with pytest.raises(Unusable, match="ends early"):
        early.end()


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"data")
    assert read_file(tmp_path / "file") == b"data"
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path / "pipe", tmp_path, tmp_path / "none", "/dev/zero"):
        with pytest.raises(OSError):
            read_file(other)


@pytest.mark.fault("item 25: a stored file that unpacks to gigabytes")
def test_a_file_with_holes_is_not_read_into_memory(tmp_path):
    with (tmp_path / "f").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="more than 1,073,741,824 bytes"):
        read_file(tmp_path / "f")


def test_an_error_that_is_packed_in_another_way_has_no_body():
    async def parts():
        yield b"words"

    assert asyncio.run(read_error_body(parts(), "br")) == b""
    assert asyncio.run(read_error_body(parts(), "")) == b"words"
