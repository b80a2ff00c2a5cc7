"""The command for a borrowed GPU machine, on this one and at a tiny size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def command(results: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--results", str(results), *words]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_it_goes_on_when_a_part_has_no_time_and_writes_what_there_is(tmp_path: Path) -> None:
    done = command(tmp_path, "--minutes", "0.01", "--only", "update,engine")
    assert done.returncode == 1
    (file,) = tmp_path.glob("gpu-*.txt")
    lines = file.read_text().splitlines()
    for name in ("environment", "update", "engine"):
        assert any(line.startswith(f"--- {name} failed after") and line.endswith("out of time") for line in lines)
    assert done.stdout.splitlines()[:-1] == lines


def test_an_unknown_part_is_one_line(tmp_path: Path) -> None:
    done = command(tmp_path, "--only", "upload")
    assert done.returncode == 2 and "there is no part upload" in done.stderr


@pytest.mark.slow  # 20 s: five models are made and run
def test_update_and_engine_run_without_search_and_endpoints(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('tantivy', 'openai', 'elasticsearch'): sys.modules[name] = None\n"
        "sys.argv = ['part', '--tiny', '--seconds', '3']\n"
        "from benchmarks.gpu import engine, update\n"
        "update.main(); engine.main()"
    )
    words = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "22 leaves" in done.stdout and "graphs compiled" in done.stdout
    assert "bfloat16      4  engine" in done.stdout
