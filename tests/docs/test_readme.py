"""The Python in the README runs as it stands, and the README stays a page."""

from __future__ import annotations

import re

import pytest

from tests.helpers.places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=["method", "environments"])
def test_its_python_runs(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 200
