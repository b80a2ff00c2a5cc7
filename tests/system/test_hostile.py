"""Hundreds of thousands of hostile texts: none becomes more than data or ends in an exception, each has an outcome."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.helpers import real_tokenizers
from tests.helpers.hostile import Reader, atoms, open_readers, texts
from tests.helpers.places import ROOT

SHARES, TEXTS = 2, 100_000
FUZZED = 60_000


@pytest.fixture(scope="module")
def readers(tmp_path_factory) -> list[Reader]:
    return open_readers(real_tokenizers.NAMES, tmp_path_factory.mktemp("index"))


def read(readers: list[Reader], seed: int, number: int, megabytes: int) -> None:
    """Every text in one part, at one tokenizer and dialect, in turns; those of a megabyte in every part."""
    for n, text in enumerate(texts(seed, number, atoms(), megabytes)):
        if n < megabytes:
            for part in readers[(seed * megabytes + n) % len(readers)].parts:
                part(text)
        else:
            readers[n // 4 % len(readers)].parts[n % 4](text)


def test_hostile_texts_stay_data(readers):
    read(readers, seed=0, number=6_000, megabytes=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("share", range(SHARES))
def test_many_hostile_texts_stay_data(readers, share):
    read(readers, seed=1 + share, number=TEXTS, megabytes=4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fuzzer_that_follows_coverage_finds_no_escape(tmp_path):
    """Atheris mutates towards new branches of our code; it ends the process at the first exception."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: it is in the dependency group fuzz")
    options = [f"-runs={FUZZED}", "-seed=1", "-max_len=2000", "-len_control=0", f"-artifact_prefix={tmp_path}/"]
    memory = "-rss_limit_mb=6144"  # three tokenizers and what they import hold two gigabytes before the first run
    line = [sys.executable, "-m", "tests.system.fuzz_hostile", *options, memory]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    assert f"Done {FUZZED} runs" in done.stderr
