"""The command for a borrowed GPU machine, on this one and at a tiny size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from at2po_agent.update.packing import collate, pack_tree
from benchmarks.gpu.kernels import Stretches
from tests.helpers.random_trees import random_batch

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


def test_the_keys_of_a_stretch_are_the_path_to_it() -> None:
    for seed in range(20):
        ends = collate([pack_tree(*tree) for tree in random_batch(seed)]).ends.numpy()
        found = Stretches.of(ends)
        assert len(found.query_ends) < len(ends)  # several tokens are one stretch
        for start, stop, first, last in zip(
            found.query_ends, found.query_ends[1:], found.key_ends, found.key_ends[1:], strict=False
        ):
            for query in range(start, stop):
                seen = found.keys[first : last - (stop - 1 - query)]  # causal, with the last query at the last key
                expected = [key for key in range(query + 1) if query < ends[key]]
                assert np.array_equal(seen, expected)


@pytest.mark.slow  # 20 s: five models are made and run
def test_update_kernels_and_engine_run_without_search_and_endpoints(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('tantivy', 'openai', 'elasticsearch'): sys.modules[name] = None\n"
        "sys.argv = ['part', '--tiny', '--seconds', '3']\n"
        "from benchmarks.gpu import engine, kernels, update\n"
        "update.main(); kernels.main(); engine.main()"
    )
    words = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "attention of one layer" in done.stdout and "cut-cross-entropy" in done.stdout
    assert "22 leaves" in done.stdout and "graphs compiled" in done.stdout
    assert "bfloat16      4  engine" in done.stdout
