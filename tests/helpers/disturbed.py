"""Small training runs in processes of their own, forked from a warm one so that a start is cheap, and disturbed.

SIGKILL leaves on the disk exactly what had been written. It comes from outside at any moment (``killed_after``), or
from within at a moment that no clock would hit: halfway through a write, or before a file appears, is renamed or goes.
"""

from __future__ import annotations

import ctypes
import io
import json
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from at2po_agent import atomic_files as atomic
from at2po_agent.commands import main as cli
from at2po_agent.training import run_dir, trainer
from at2po_agent.training.checkpoints import load
from at2po_agent.training.config import load_config
from at2po_agent.training.display import Display
from at2po_agent.training.run_dir import RunDirectory, read_trees, tree_files

CONFIG = [
    "policy.path=builtin:microwiki",
    "env.id=AT2PO-MicroWiki-v0",
    "env.kwargs={world: tiny, dialect: bare, k: 1, max_searches: 2}",
    "algorithm={expansion: {chains: 4, per_round: 2, rounds: 1}}",
    "rollout.questions=2",
    "rollout.max_turn_tokens=24",
    "update.lr=1e-3",
    "update.mini_batch=1",
    "train.steps=4",
    "eval.questions=4",
    "eval.every=2",
    "eval.batch=2",
    "checkpoint.every=1",
    "threads=1",
]
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")  # before each of them

STOPPED = 3

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.helpers.warm"])


def begin(path: Path, *prepare: Callable[[], None], stop: Any = None) -> ForkServerProcess:
    """Start to train in ``path``, or go on there; ``prepare`` runs in the new process before."""
    process = _processes.Process(target=train_in, args=(path, prepare, (), stop))
    process.start()
    return process


def finish(path: Path) -> None:
    """Train in ``path`` to the end."""
    process = begin(path)
    process.join()
    assert process.exitcode == 0


def is_killed(process: ForkServerProcess) -> bool:
    """Wait for a process that ends well or by SIGKILL, and say which."""
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def killed_after(process: ForkServerProcess, seconds: float) -> bool:
    """Kill a process from outside when it has run so long; False where it ended before."""
    process.join(seconds)
    process.kill()
    return is_killed(process)


class TornWrite:
    """Dies in the n-th write of a whole file or a line, with half of its bytes on the disk."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def __call__(self) -> None:
        """Arm this process."""
        whole = atomic.write_all

        def write_half(file: io.FileIO, data: bytes) -> None:
            self.left -= 1
            if self.left == 0:
                whole(file, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            whole(file, data)

        atomic.write_all = run_dir.write_all = write_half


class Signalled:
    """Gets signals, one after the other, in its n-th write."""

    def __init__(self, nth: int, signals: Sequence[int]) -> None:
        self.left, self.signals = nth, signals

    def __call__(self) -> None:
        """Arm this process."""
        whole = atomic.write_all

        def write(file: io.FileIO, data: bytes) -> None:
            whole(file, data)
            self.left -= 1
            for number in self.signals if self.left == 0 else ():
                os.kill(os.getpid(), number)

        atomic.write_all = run_dir.write_all = write


class FileEvent:
    """Dies before the n-th time that something in ``folder`` is opened to be written, made, renamed or removed."""

    def __init__(self, nth: int, folder: Path) -> None:
        self.left, self.folder = nth, str(folder)

    def __call__(self) -> None:
        """Arm this process."""
        sys.addaudithook(self.seen)

    def seen(self, event: str, arguments: tuple[Any, ...]) -> None:
        """One audit event of Python."""
        if event not in FILE_EVENTS or not arguments or not self._is_of_the_run(event, arguments):
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_of_the_run(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event in ("os.remove", "os.rmdir") and arguments[1] != -1:
            return True  # of shutil.rmtree, relative to an open folder
        reads = event == "open" and isinstance(arguments[1], str) and arguments[1].startswith("r")
        return not reads and isinstance(arguments[0], str | os.PathLike) and str(arguments[0]).startswith(self.folder)


def record(path: Path) -> dict[str, Any]:
    """All that a run left: metrics, evaluations, trees, weights, optimisers, every name.

    Left out are timings, and the global random generators, which a run keeps and never draws from.
    """
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    checkpoints = sorted((path / "checkpoints").iterdir())
    found = [load(folder) for folder in checkpoints]
    return {
        "metrics": [{key: value for key, value in line.items() if key != "time"} for line in lines],
        "positions": [{**checkpoint.position, "seconds": None, "cpu_seconds": None} for checkpoint in found],
        "weights": [(folder / "model" / "model.safetensors").read_bytes() for folder in checkpoints],
        "states": [_plain(torch.load(folder / "state.pt", weights_only=True)["updater"]) for folder in checkpoints],
        "trees": {file.name: read_trees(file) for file in tree_files(path)},
        "evaluations": {file.name: file.read_text() for file in (path / "evaluations").iterdir()},
        "names": sorted(str(file.relative_to(path)) for file in path.rglob("*")),
    }


def command(path: Path, *words: str, prepare: Sequence[Callable[[], None]] = ()) -> tuple[int | None, str]:
    """Run ``at2po-agent`` with these words in a process of its own: exit status, and what it printed."""
    output = path.with_name(f"{path.name}.txt")
    process = begin_command(output, *words, prepare=prepare)
    process.join()
    return process.exitcode, output.read_text(encoding="utf-8")


def begin_command(output: Path, *words: str, prepare: Sequence[Callable[[], None]] = ()) -> ForkServerProcess:
    """Start ``at2po-agent`` with these words; what it prints goes to the file ``output``."""
    process = _processes.Process(target=_command, args=(output, words, prepare))
    process.start()
    return process


def new_run(path: Path) -> list[str]:
    """The words that begin the run that all tests here disturb."""
    return ["train", *CONFIG, f"run_dir={path}"]


class FullDisk:
    """No file can grow past so many bytes, see ``faults``."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self) -> None:
        """Arm this process."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


class Unprivileged:
    """Permissions count, also for root: it gives up the right to pass them over (man 7 capabilities)."""

    def __call__(self) -> None:
        """Arm this process."""
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
        if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()) != 0:
            raise OSError(ctypes.get_errno(), "capset")


class ReadOnlyFrom(Unprivileged):
    """A folder and what is in it cannot be written any more from the n-th write on."""

    def __init__(self, nth: int, folder: Path) -> None:
        self.left, self.folder = nth, folder

    def __call__(self) -> None:
        """Arm this process."""
        super().__call__()
        whole = atomic.write_all

        def write(file: io.FileIO, data: bytes) -> None:
            whole(file, data)
            self.left -= 1
            if self.left == 0:
                make_writable(self.folder, False)

        atomic.write_all = run_dir.write_all = write


def make_writable(folder: Path, writable: bool) -> None:
    """Set the permissions of a folder, its files and folders."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod((0o755 if path.is_dir() else 0o644) if writable else (0o555 if path.is_dir() else 0o444))


class StopAt:
    """A stop that is there when it is asked for the n-th time."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def is_set(self) -> bool:
        """Whether to stop, as of an ``Event``."""
        self.left -= 1
        return self.left < 0


def train_in(
    path: Path, prepare: Sequence[Callable[[], None]] = (), overrides: Sequence[str] = (), stop: Any = None
) -> None:
    """Train in ``path``, or go on there, in this process, which exits with ``STOPPED`` where it was stopped."""
    for arm in prepare:
        arm()
    if (path / "config.yaml").exists():
        directory = RunDirectory.resume(path, overrides)
    else:
        directory = RunDirectory.create(load_config(None, [*CONFIG, f"run_dir={path}", *overrides]))
    with directory, Display(0, None, Console(quiet=True)) as display:
        result = trainer.train(directory.config, run=directory, display=display, stop=stop)
    if result.stopped:
        sys.exit(STOPPED)


def _command(output: Path, words: Sequence[str], prepare: Sequence[Callable[[], None]]) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    for arm in prepare:
        arm()
    sys.exit(cli.main(words))


def _plain(state: Any) -> Any:
    """With lists for tensors, so that ``==`` compares every number."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_plain(value) for value in state]
    return state.tolist() if isinstance(state, torch.Tensor) else state
