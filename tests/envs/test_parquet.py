from __future__ import annotations

import contextlib
import json
import sys

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from at2po_env.dataset import DataError
from envs.layouts import records


@pytest.mark.fault("item 8: Search-R1's Parquet files")
def test_parquet_is_read_as_the_same_rows_in_json_lines(tmp_path):
    rows = [
        {"id": "1", "answers": ["p", "q"], "metadata": {"level": "hard", "context": {"title": ["T"]}}},
        {"id": "2", "answers": [], "metadata": None},
        {"id": "3", "answers": ["ü"], "metadata": {"level": None, "context": {"title": None}}},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "f.parquet")
    found = list(records(tmp_path / "f.parquet"))
    path = tmp_path / "f.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [record.where for record in found] == [f"{tmp_path / 'f.parquet'}, record {n}" for n in range(3)]
    wanted = [record.fields for record in records(path)]
    assert [{**record.fields, "metadata": None} for record in found] == [
        {**fields, "metadata": None} for fields in wanted
    ]
    assert [record.get("level") for record in found] == ["hard", None, None]
    assert ["context" in record for record in found] == [True, False, False]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"id": "1"}]), tmp_path / "f.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"f\.parquet: is Parquet, .*pip install 'at2po\[parquet\]'"):
        list(records(tmp_path / "f.parquet"))


@settings(max_examples=40)
@given(damage=st.binary(max_size=8), at=st.integers(0, 10_000), cut=st.integers(0, 10_000))
def test_damaged_parquet_is_read_or_is_one_error(tmp_path_factory, damage, at, cut):
    folder = tmp_path_factory.getbasetemp()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"id": "1", "golden_answers": ["x"]}] * 50), folder / "f")
    content = bytearray((folder / "f").read_bytes())
    start = at % len(content)
    content[start : start + len(damage)] = damage
    path = folder / "damaged"
    path.write_bytes(b"PAR1" + bytes(content[4 : max(8, cut % (2 * len(content)))]))
    with contextlib.suppress(DataError):
        assert all(isinstance(record.fields, dict) for record in records(path))


@pytest.mark.fault("item 25: a stored file that unpacks to gigabytes")
def test_rows_that_repeat_one_long_text_are_read_no_further_than_memory_allows(tmp_path):
    path = tmp_path / "f.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": ["x" * 1_100_000] * 64}), path)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(DataError, match="at record 0: 64 rows have more than"):
        list(records(path))
