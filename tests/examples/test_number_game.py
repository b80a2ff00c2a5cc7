from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.helpers.places import ROOT


@pytest.mark.slow
def test_the_number_game_is_learned() -> None:
    done = subprocess.run([sys.executable, "examples/number_game.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = (int(share) for share in re.findall(r"^goals reached \w+: (\d+)%$", done.stdout, re.MULTILINE))
    assert before <= 25 and after >= before + 40
