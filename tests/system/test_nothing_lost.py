"""``train`` is killed, stopped and kept from writing, and goes on; what it leaves is what an undisturbed run leaves."""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

import pytest

from at2po_agent.training.run_dir import RunDirectory, RunDirError, read_metrics
from tests.helpers.disturbed import (
    STOPPED,
    FileEvent,
    FullDisk,
    ReadOnlyFrom,
    Signalled,
    StopAt,
    TornWrite,
    Unprivileged,
    begin,
    begin_command,
    command,
    finish,
    is_killed,
    killed_after,
    make_writable,
    new_run,
    record,
)

# Each starts and ends whole processes, and together they take a minute.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The directory of the run that nothing disturbs."""
    return tmp_path_factory.mktemp("undisturbed") / "run"


@pytest.fixture(scope="module")
def undisturbed(finished) -> tuple[dict[str, Any], float]:
    """What a run leaves that nothing disturbs, and the seconds that it takes."""
    finish(finished.with_name("warm-up"))  # the process that others are forked from has its modules
    started = time.monotonic()
    finish(finished)
    return record(finished), time.monotonic() - started


def exit_status(process: ForkServerProcess) -> int | None:
    process.join()
    return process.exitcode


def wait_for_a_step(path: Path) -> None:
    for _ in range(6000):
        if any("reward" in line for line in read_metrics(path)):
            return
        time.sleep(0.01)
    raise TimeoutError(f"no step in {path}")


def free(output: str) -> str:
    """How much space was told to be left."""
    return re.findall(r"[\d,]+ MB free there", output)[0]


def kill_at_random(times: int, seed: int, folder: Path, undisturbed: tuple[dict[str, Any], float]) -> None:
    """Kill so often, at moments drawn from a third of a run's length; a run that gets to its end is compared."""
    expected, seconds = undisturbed
    moments, killed, run = random.Random(seed), 0, 0
    while killed < times:
        path = folder / f"run{run}"
        while killed < times and killed_after(begin(path), moments.uniform(0, seconds / 3)):
            killed += 1
        if killed == times:
            finish(path)
        assert record(path) == expected
        run += 1


def test_a_run_that_is_killed_halfway_through_its_writes_loses_nothing(undisturbed, tmp_path):
    path, nth = tmp_path / "run", 1
    while is_killed(begin(path, TornWrite(nth))):
        nth += 1
    assert nth > 8
    assert record(path) == undisturbed[0]


def test_a_run_that_is_stopped_wherever_it_asks_loses_nothing(undisturbed, tmp_path):
    path, nth = tmp_path / "run", 0
    while exit_status(begin(path, stop=StopAt(nth))) == STOPPED:
        nth += 1
    assert nth > 4
    assert record(path) == undisturbed[0]


def test_a_run_that_is_terminated_goes_on_as_if_it_had_not_been(undisturbed, tmp_path):
    path = tmp_path / "run"
    process = begin_command(tmp_path / "output.txt", *new_run(path))
    wait_for_a_step(path)
    with pytest.raises(RunDirError, match="is in use by another process"):
        RunDirectory.resume(path)
    process.terminate()
    assert exit_status(process) == 143
    output = (tmp_path / "output.txt").read_text()
    assert output.count("stopping after this step, with a checkpoint; once more to end at once") == 1
    assert f"continue with: at2po-agent train --resume {path}" in output and "Traceback" not in output
    finish(path)
    assert record(path) == undisturbed[0]


@pytest.mark.parametrize("signals", [(SIGINT, SIGINT), (SIGTERM, SIGINT)])
def test_a_second_ctrl_c_ends_a_run_at_once_and_loses_nothing(undisturbed, tmp_path, signals):
    path = tmp_path / "run"
    status, output = command(path, *new_run(path), prepare=[Signalled(9, signals)])
    assert status == 130
    assert output.count("once more to end at once") == 1 and "continue with" not in output and "Traceback" not in output
    finish(path)
    assert record(path) == undisturbed[0]


@pytest.mark.parametrize("size", [200, 100_000])  # the configuration does not fit, the weights do not
def test_a_disk_that_is_full_ends_a_run_in_one_line_and_loses_nothing(undisturbed, tmp_path, size):
    path = tmp_path / "run"
    status, output = command(path, *new_run(path), prepare=[FullDisk(size)])
    assert status == 2
    assert re.search(
        rf"^at2po-agent: error: cannot write {path}[^ ]*: .*File too large .*\([\d,]+ MB free there\)$", output, re.M
    )
    assert "Traceback" not in output
    assert path.exists() == (size > 200)
    finish(path)
    assert record(path) == undisturbed[0]


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path):
    tmp_path.chmod(0o555)
    output = tmp_path.with_name(f"{tmp_path.name}-output")
    status, said = command(output, *new_run(tmp_path / "run"), prepare=[Unprivileged()])
    tmp_path.chmod(0o755)
    assert (status, said) == (
        2,
        f"at2po-agent: error: cannot write {tmp_path / 'run'}: Permission denied ({free(said)})\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_that_becomes_read_only_can_be_read_and_goes_on_when_it_is_not(undisturbed, tmp_path):
    path = tmp_path / "run"
    status, output = command(path, *new_run(path), prepare=[ReadOnlyFrom(12, path)])
    assert status == 2
    assert re.search(rf"^at2po-agent: error: cannot write {path}[^ ]*: Permission denied \(", output, re.M)
    status, output = command(path, "train", "--resume", str(path), prepare=[Unprivileged()])
    assert (status, output.count("\n")) == (2, 1) and f"cannot write {path}: Permission denied" in output
    assert command(path, "show-tree", str(path), prepare=[Unprivileged()])[0] == 0
    make_writable(path, True)
    finish(path)
    assert record(path) == undisturbed[0]


def test_a_checkpoint_that_was_truncated_is_passed_over_and_said(undisturbed, finished, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    weights = path / "checkpoints" / "step_000004" / "model" / "model.safetensors"
    os.truncate(weights, 1000)
    status, output = command(path, "train", "--resume", str(path))
    assert status == 0
    damaged = f"{weights.parents[1]} is damaged: model/model.safetensors is not what was written"
    assert f"{damaged}; continuing from step_000003 instead\n" in output
    assert f"continuing from step 3 ({path / 'checkpoints' / 'step_000003'})\n" in output
    names = "names"  # the checkpoint of the step that was made again has another one
    assert {**record(path), names: None} == {**undisturbed[0], names: None}


def test_a_run_that_is_killed_at_40_random_moments_loses_nothing(undisturbed, tmp_path):
    kill_at_random(40, 1, tmp_path, undisturbed)


def test_a_run_that_is_killed_before_any_file_is_made_renamed_or_removed_loses_nothing(undisturbed, tmp_path):
    path, nth = tmp_path / "run", 1
    while is_killed(begin(path, FileEvent(nth, path))):
        nth += 1
    assert nth > 40
    assert record(path) == undisturbed[0]
