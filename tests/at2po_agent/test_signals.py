"""Signal handlers, and a real process that is killed, interrupted and terminated; what it leaves goes on."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from at2po_agent import signals
from at2po_agent.judge.episodes.records import read_episodes
from tests.helpers.chat_server import Say, failure, search_then_answer
from tests.helpers.places import ROOT

N, R = 30, 4
WORDS = ["-e", "AT2PO-HotpotQA-v0", "--split", "demo", "-m", "m", "-n", str(N), "-r", str(R), "-T", "1", "-c", "8"]


def test_the_first_signal_stops_and_signal_handlers_are_given_back():
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    stop = threading.Event()
    with signals.stopping(stop) as received:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
    assert received == [signal.SIGTERM]
    assert [signal.getsignal(number) for number in signals.SIGNALS] == before


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_the_first_signal_cancels_work_that_waits(number):
    before = [signal.getsignal(each) for each in signals.SIGNALS]
    ended = []

    async def work() -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("in order")

    with pytest.raises(signals.Interrupted) as interrupted:
        signals.run(work())
    assert (interrupted.value.number, ended) == (number, ["in order"])
    assert [signal.getsignal(each) for each in signals.SIGNALS] == before


def test_work_without_a_signal_returns_or_raises_as_it_does():
    async def work(error: Exception | None = None) -> int:
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return 7

    assert signals.run(work()) == 7
    with pytest.raises(ZeroDivisionError, match="a bug"):
        signals.run(work(ZeroDivisionError("a bug")))


def test_a_signal_that_comes_just_before_the_loop_sleeps_wakes_it():
    """As does one that another thread receives, which is the same to the loop: nothing interrupts its sleep."""

    def receive() -> None:
        time.sleep(0.3)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    async def work() -> None:
        threading.Thread(target=receive).start()
        await asyncio.sleep(20)

    begun = time.monotonic()
    with pytest.raises(signals.Interrupted):
        signals.run(work())
    assert time.monotonic() - begun < 10


STUBBORN = """
import asyncio, os, signal
from at2po_agent.signals import run

async def work():
    while True:
        try:
            print("working", flush=True)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("not yet", flush=True)

run(work())
"""


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_the_second_signal_ends_the_process_at_once(number):
    known = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", STUBBORN], env=known, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "working\n"
        process.send_signal(number)
        assert process.stdout.readline() == "not yet\n"
        process.send_signal(number)
        assert process.wait(30) == 128 + number


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
    assert f"continue with: at2po-agent eval --resume runs/{run.name}" in out


def test_two_processes_cannot_share_a_run(serve, tmp_path):
    over = threading.Event()
    server = serve(lambda asked: Say("<answer>x", wait_for=over))
    first = start(tmp_path, *WORDS, "-b", server.url)
    try:
        while first.poll() is None and not server.asked:
            time.sleep(0.01)
        # No question is answered before `over`, so the first process cannot have ended.
        (run,) = tmp_path.glob("runs/*")
        second = start(tmp_path, "--resume", str(run))
        _, err = second.communicate(timeout=60)
        assert (second.returncode, "in use by another process" in err) == (2, True)
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()
        over.set()


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
