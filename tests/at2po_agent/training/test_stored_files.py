from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from at2po_agent.training.stored_files import Count, Share, fitting, read_lines, read_value, unchanged
from search_backend.outside import Unusable


@dataclass
class Line:
    n: Count
    em: Share = 0.0


def check(value: object) -> Line:
    return fitting(value, Line)


def test_lines_are_read_as_far_as_the_last_line_feed(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text('{"n": 1}\n{"n": 2, "em": 1}\n{"n": 3')
    assert list(read_lines(file, check, "a line")) == [Line(1), Line(2, 1.0)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"n": -1}', "n: input should be greater than or equal to 0, not -1"),
        (b'{"n": 1, "em": "x"}', "em: "),
        (b'{"n": 1, "em": 2}', "em: "),
        (b'{"n": 1.5}', "n: "),
        (b"[" * 200_000, "JSON nested deeper"),
        (b"\xff", "not text in utf-8"),
        (b"{", "not JSON"),
    ],
)
def test_a_line_that_does_not_fit_is_named_by_file_and_number(tmp_path: Path, line: bytes, said: str) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b'{"n": 1}\n' + line + b"\n")
    with pytest.raises(Unusable) as caught:
        list(read_lines(file, check, "a line"))
    assert str(caught.value).startswith(f"{file}:2: not a line: {said}")


def test_a_value_keeps_the_keys_that_its_type_does_not_name(tmp_path: Path) -> None:
    file = tmp_path / "value.json"
    file.write_text('{"a": {"n": 1, "more": 2}}')
    assert read_value(file, unchanged(dict[str, dict[str, int]])) == {"a": {"n": 1, "more": 2}}
    with pytest.raises(FileNotFoundError):
        read_value(tmp_path / "none.json", unchanged(dict))
    with pytest.raises(Unusable, match="cannot be read"):
        read_value(tmp_path, unchanged(dict))
