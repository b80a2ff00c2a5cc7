"""``python -m at2po_agent`` is the command."""

from __future__ import annotations

import subprocess
import sys

import at2po_agent
from tests.helpers.places import ROOT


def test_the_package_runs_as_the_command() -> None:
    line = [sys.executable, "-m", "at2po_agent"]
    version = subprocess.run([*line, "--version"], capture_output=True, text=True, cwd=ROOT)
    assert (version.returncode, version.stdout) == (0, f"at2po-agent {at2po_agent.__version__}\n")
    wrong = subprocess.run([*line, "frobnicate"], capture_output=True, text=True, cwd=ROOT)
    assert wrong.returncode == 2 and wrong.stderr.startswith("usage: at2po-agent")
