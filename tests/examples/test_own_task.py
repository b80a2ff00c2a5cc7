from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.helpers.places import EXAMPLES


@pytest.mark.slow
@pytest.mark.fault("item 19: examples/own_task.py gets worse as it trains")
def test_the_policy_learns_the_task_and_the_last_lines_show_it() -> None:
    command = [sys.executable, str(EXAMPLES / "own_task.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    before, after = done.stdout.splitlines()[-2:]
    number = re.compile(r"EM (before|after): ([\d.]+)%, with ([\d.]+) searches a question")
    (first, em, searches), (last, em_after, searches_after) = number.findall(f"{before}\n{after}")
    assert (first, last) == ("before", "after")
    assert float(em_after) >= float(em) + 25
    assert float(searches_after) < float(searches)
