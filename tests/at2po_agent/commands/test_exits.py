"""How the program ends as a process. What its errors say: test_main.py."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.places import ROOT


def run(words: str, **options: int) -> subprocess.CompletedProcess[str]:
    line = f"set -o pipefail; {sys.executable} -m at2po_agent {words}"
    return subprocess.run(["bash", "-c", line], text=True, stderr=subprocess.PIPE, cwd=ROOT, check=False, **options)


@pytest.mark.parametrize("words", ["configs", "--help", "configs | tail -1"])
def test_all_that_was_printed_arrives(words: str) -> None:
    done = run(words, stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n")


@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_a_reader_who_has_had_enough_ends_it_without_a_word(reader: str) -> None:
    done = run(f"configs | {reader}", stdout=subprocess.DEVNULL)
    assert done.stderr == ""
    assert done.returncode in (0, 128 + signal.SIGPIPE)  # 0: all was written before the reader was gone


def test_an_error_of_a_full_disk_is_no_broken_pipe(tmp_path: Path) -> None:
    done = run("configs > /dev/full")
    assert done.returncode not in (0, 128 + signal.SIGPIPE) and "No space left" in done.stderr
