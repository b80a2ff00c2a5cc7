"""A real process that evaluates is killed, interrupted and terminated; what it leaves goes on."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from at2po_agent.judge.episodes.records import read_episodes
from tests.helpers.chat_server import Say, failure, search_then_answer
from tests.helpers.places import ROOT

N, R = 30, 4
WORDS = ["-e", "AT2PO-HotpotQA-v0", "--split", "demo", "-m", "m", "-n", str(N), "-r", str(R), "-T", "1", "-c", "8"]


def start(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "at2po_agent", "eval", *words]
    known = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", **environment}
    return subprocess.Popen(line, cwd=folder, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines_of(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in folder.glob("runs/*/episodes.jsonl"))


def slowly(asked):
    say = search_then_answer(asked)
    say.delay = 0.05
    return say


@pytest.mark.slow
@pytest.mark.timeout(1200)  # twenty starts of a process
def test_twenty_kills_lose_nothing_and_repeat_nothing(serve, tmp_path):
    rng = random.Random(20)
    total = N * R
    server = serve(slowly)
    kills = 0
    finished: dict[str, bytes] = {}
    while True:
        process = start(tmp_path, *WORDS, "-b", server.url, "--resume")
        here = lines_of(tmp_path)
        # Killed at a random moment: most while episodes run, some while it starts, some within the first write.
        goal = here + rng.choice([0, 1, 2, 3, 5])
        while process.poll() is None and lines_of(tmp_path) < goal and kills < 22:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.05 if goal > here else rng.random() * 2)
        if kills < 22 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        _, error = process.communicate(timeout=200)
        runs = list(tmp_path.glob("runs/AT2PO*"))
        assert len(runs) <= 1, runs
        for run in runs:
            whole = (run / "episodes.jsonl").read_bytes().rpartition(b"\n")[0].splitlines()
            assert whole[: len(finished)] == list(finished.values())  # what was finished stands as it was
            finished = {f"{json.loads(line)['question_id']} {json.loads(line)['sample']}": line for line in whole}
            assert len(finished) == len(whole)  # nothing twice
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, error
            break
    assert kills >= 20
    assert len(finished) == total
    assert json.loads((run / "summary.json").read_text())["episodes"] == total
    assert [path.name for path in tmp_path.glob("runs/*") if path != run] in ([], [f".tmp-{run.name}"])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_nothing_half_and_says_how_to_go_on(serve, tmp_path, number, status):
    process = start(tmp_path, *WORDS, "-b", serve(slowly).url)
    while process.poll() is None and lines_of(tmp_path) < 3:
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "Traceback" not in err
    (run,) = tmp_path.glob("runs/*")
    data = (run / "episodes.jsonl").read_bytes()
    assert data.endswith(b"\n")
    records = list(read_episodes(run))
    assert 3 <= len(records) < N * R and all(record.error is None for record in records)
    assert f"stopped with {len(records)} of {N * R} episodes recorded" in out
    assert f"go on with: at2po-agent eval --resume runs/{run.name}" in out


def test_two_processes_cannot_share_a_run(serve, tmp_path):
    def begins(asked):
        say = search_then_answer(asked)
        say.delay = 0.0 if asked.number < 20 else 300.0  # the first is not done before the second is there
        return say

    first = start(tmp_path, *WORDS, "-b", serve(begins).url)
    try:
        while first.poll() is None and lines_of(tmp_path) < 1:
            time.sleep(0.01)
        (run,) = tmp_path.glob("runs/*")
        second = start(tmp_path, "--resume", str(run))
        _, err = second.communicate(timeout=60)
        assert (second.returncode, "in use by another process" in err) == (2, True)
    finally:
        first.kill()
        first.communicate()


def test_the_key_is_in_nothing_that_a_run_writes(serve, tmp_path):
    key = "sk-test-0123456789-very-secret"

    def script(asked):
        said = asked.headers["authorization"]
        if asked.number % 7 == 3:
            return failure(500, f"headers: {asked.headers}")
        if asked.number % 7 == 5:
            return Say(raw=f"<html>{said}</html>".encode())
        if asked.number > 60:
            return failure(400, f"not with {said}")
        say = search_then_answer(asked)
        say.text = f"<think>{said}</think>{say.text}"
        say.message = {"reasoning_content": said}
        return say

    server = serve(script)
    words = [*WORDS, "-b", server.url, "-k", "TEST_KEY", "limits.retries=1", "limits.retry_seconds=0.01"]
    process = start(tmp_path, *words, "cache=answers.db", TEST_KEY=key, OPENAI_LOG="debug")
    out, err = process.communicate(timeout=100)
    assert process.returncode == 1, err
    assert server.asked[0].headers["authorization"] == f"Bearer {key}"
    (run,) = tmp_path.glob("runs/*")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.yaml", "manifest.json", "episodes.jsonl", "summary.json", "answers.db"} <= {p.name for p in written}
    assert "[key]" in (run / "episodes.jsonl").read_text()
    for place in [out.encode(), err.encode(), *(path.read_bytes() for path in written)]:
        assert key.encode() not in place
        assert b"very-secret" not in place
    errors = [record.error for record in read_episodes(run) if record.error]
    assert any("Bearer [key]" in error for error in errors)
