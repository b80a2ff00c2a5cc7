"""``at2po-agent train``: train a policy or go on with a run, in one process or in several."""

from __future__ import annotations

import argparse
import gc
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2po_agent.commands.exits import leave, status_of
from at2po_agent.commands.options import add_configuration
from at2po_agent.errors import ConfigError
from at2po_agent.signals import stopping
from at2po_agent.terminal import say

if TYPE_CHECKING:
    from at2po_agent.training.config import TrainConfig
    from at2po_agent.training.run_dir import RunDirectory
    from at2po_agent.update.processes import Processes

_COLLECT_EVERY = 10_000, 20, 20  # of gc.set_threshold; Python's own are 700, 10, 10 (2000 from 3.13 on)
_NOT_KNOWN: Any = None  # what the other processes give where the first one says what to train


def add_parser(commands: Any) -> None:
    """Add ``train`` to the commands of a parser."""
    train = commands.add_parser("train", help="train a policy, or resume a run")
    train.add_argument("--resume", type=Path, metavar="RUN", help="continue a run from its last checkpoint")
    train.add_argument(
        "--accept-change",
        metavar="KINDS",
        help="continue although these have changed: data, index, config, separated by commas",
    )
    add_configuration(train, example="train.steps=10")
    train.set_defaults(command=_train)


def _train(arguments: argparse.Namespace) -> int:
    from at2po_agent.settings import to_yaml
    from at2po_agent.training.config import load_config
    from at2po_agent.update.processes import joined, under_torchrun

    if arguments.print_config:
        files = arguments.resume / "config.yaml" if arguments.resume else arguments.cfg
        say(to_yaml(load_config(files, arguments.overrides)).rstrip("\n"))
        return 0
    if under_torchrun():
        with joined() as processes:
            if not processes.leads:
                config, path = processes.gather(_NOT_KNOWN)[0]
                return _follow(processes, config, path)
            with _open_run(arguments) as run:
                processes.gather((run.config, run.path.absolute()))  # what the others are waiting for
                return _lead(run, processes)
    with _open_run(arguments) as run, _together(run) as processes:
        return _lead(run, processes)


@contextmanager
def _together(run: RunDirectory) -> Iterator[Processes]:
    """This process and others that it starts, as many in all as the configuration of the run says."""
    from at2po_agent.update.processes import ONE

    count = run.config.processes
    if count == 1:
        yield ONE
        return
    from at2po_agent.update.local_processes import best_start, started

    start = best_start()
    import at2po_agent.training.trainer  # noqa: F401  before the others are forked, which then have it too
    from at2po_agent.policy.loading import device_of

    if device_of("auto") != "cpu":
        say(
            f"training in one process: processes={count} is for CPUs, and this host has a GPU. torchrun starts a "
            "process for each of several GPUs; CUDA_VISIBLE_DEVICES= hides them, to train on CPUs",
            error=True,
        )
        yield ONE
        return
    with started(count, _be_led, run.config, run.path.absolute(), start=start) as processes:
        yield processes


def _be_led(joining: AbstractContextManager[Processes], config: TrainConfig, path: Path) -> None:
    """Take part in a run of this host, and end the process."""

    def work() -> int:
        with joining as processes:
            return _follow(processes, config, path)

    leave(status_of(work))


def _open_run(arguments: argparse.Namespace) -> RunDirectory:
    """Open the run directory once the configuration is checked, and say that the policy is being loaded."""
    from at2po_agent.terminal import say_loading
    from at2po_agent.training.config import load_config
    from at2po_agent.training.run_dir import RunDirectory
    from at2po_agent.training.validation import validate

    if arguments.resume and arguments.cfg:
        raise ConfigError(
            "give either --cfg for a new run, or --resume for an existing one, which has its own configuration"
        )
    if arguments.resume:
        accept = arguments.accept_change.split(",") if arguments.accept_change else ()
        run = RunDirectory.resume(arguments.resume, arguments.overrides, accept)
        say_loading(run.config.policy.path)
        return run
    if arguments.accept_change:
        raise ConfigError("--accept-change needs --resume RUN")
    config = load_config(arguments.cfg, arguments.overrides)
    validate(config)
    run = RunDirectory.create(config)
    say_loading(config.policy.path)
    return run


def _lead(run: RunDirectory, processes: Processes) -> int:
    """Train as the process that records the run."""
    from at2po_agent.training.display import Display
    from at2po_agent.training.recorder import RunRecorder
    from at2po_agent.training.summary import summary
    from at2po_agent.training.trainer import train_together

    limits = run.config.train
    stop = threading.Event()
    with Display(limits.steps, limits.max_seconds, max_tokens=limits.max_tokens) as display, stopping(stop) as received:
        display.note(f"run directory: {run.path}")
        if processes.count > 1:
            display.note(f"{processes.count} processes", progress=True)
        with _sparing_the_collector():
            result = train_together(run.config, RunRecorder(run, display), stop, processes)
    display.console.print(summary(result))
    if received or result.stopped:
        display.note(f"stopped after step {result.steps}; continue with: at2po-agent train --resume {run.path}")
        return 128 + (received or [signal.SIGTERM])[0]
    if result.collapsed:
        display.note(
            f"stopped after step {result.steps}, because train.stop_on_collapse is set: {result.collapsed}; "
            f"continue anyway with: at2po-agent train --resume {run.path}"
        )
        return 1
    return 0


def _follow(processes: Processes, config: TrainConfig, path: Path) -> int:
    """Take part in a run that the first process has opened and records."""
    from at2po_agent.training.recorder import Recorder
    from at2po_agent.training.trainer import train_together

    stop = threading.Event()
    with stopping(stop, say=False), _sparing_the_collector():
        result = train_together(config, Recorder(path), stop, processes)
    return 128 + signal.SIGTERM if result.stopped else int(result.collapsed is not None)


@contextmanager
def _sparing_the_collector() -> Iterator[None]:
    """Let Python's garbage collector pass over what is loaded, which stays, and look at the rest less often.

    It took a quarter of the time of a rollout on SGLang, which makes many objects that live for a step.
    """
    before = gc.get_threshold()
    gc.freeze()  # no gc.collect before it: there is little garbage by now, and the search takes half a second
    gc.set_threshold(*_COLLECT_EVERY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
