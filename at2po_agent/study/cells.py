"""The runs of a study: what state each is in, and how they are made, several at a time.

Every run is ``at2po-agent train`` in a process of its own, in an ordinary run directory. Its state is read from that
directory, so that nothing has to be remembered: a study that was killed goes on where its runs are.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from at2po_agent.atomic_files import plain_json, writing
from at2po_agent.errors import AgentError
from at2po_agent.policy.sglang.keeper import GRACE_S
from at2po_agent.provenance import differences
from at2po_agent.settings import ConfigError
from at2po_agent.study.comparison import TrainingComparison, Variant
from at2po_agent.study.config import Cell, Study
from at2po_agent.study.runs import TrainedRun
from at2po_agent.tasks import run_pool
from at2po_agent.training.config import EvalConfig, TrainConfig, load_config
from at2po_agent.training.run_dir import RunDirError, take_lock
from at2po_agent.training.validation import validate

State = Literal["new", "unfinished", "finished", "failed"]
_FREE = ("name", "run_dir")  # settings of a run that decide nothing
_POLL_S = 0.5


@dataclass(frozen=True)
class CellState:
    """The state of a run: finished, unfinished or failed."""

    state: State
    why: str = ""  # it failed, or is not finished

    @classmethod
    def of(cls, cell: Cell) -> CellState:
        """Read it from the run directory: finished is a run at its budget with the evaluation after its last step.

        Raises:
            RunDirError: what is stored cannot be read.
        """
        if not (cell.path / "config.yaml").is_file():
            return cls("new")
        config, run = load_config(cell.path / "config.yaml"), TrainedRun.read(cell.path)
        reached = config.train.reached(run.total)
        if reached is None:
            return cls("unfinished", f"stopped after step {run.total.steps}")
        evaluated = {scores.step for scores in run.evaluations}
        if run.total.steps not in evaluated:
            return cls("unfinished", "not evaluated at its end")
        return cls("finished")


def states_of(study: Study) -> dict[str, CellState]:
    """The states of all runs, by cell name; one whose directory cannot be read has failed."""
    return {cell.name: _state(cell) for cell in study.cells}


def _state(cell: Cell) -> CellState:
    try:
        return CellState.of(cell)
    except AgentError as error:
        return CellState("failed", str(error))


def check_cells(study: Study) -> None:
    """Refuse a study whose settings cannot be used, or are no longer those of the runs that it has made.

    Raises:
        ConfigError: a run's configuration is wrong, or does not evaluate what it trained.
        RunDirError: a run was made with other settings; the message names them.
    """
    of_variant: dict[str, TrainConfig] = {}
    for cell in study.cells:
        if cell.variant not in of_variant:
            of_variant[cell.variant] = cell.training()
            validate(of_variant[cell.variant])
            _check_evaluated(cell.variant, of_variant[cell.variant].eval)
        # Beside the seed, only what decides nothing differs between the runs of a variant.
        config = replace(of_variant[cell.variant], seed=cell.seed)
        if not (cell.path / "config.yaml").is_file():
            continue
        try:
            made = load_config(cell.path / "config.yaml")
        except AgentError:
            # The run has failed, as ``states_of`` says; the others can be made.
            continue
        if changed := list(differences(_settings(made), _settings(config))):
            raise RunDirError(
                f"{cell.path} was made with other settings than the study has now: {'; '.join(changed)}. Restore "
                "them, or give the study another `out`"
            )


def _check_evaluated(variant: str, config: EvalConfig) -> None:
    wrong = "eval.questions=0" if not config.questions else "eval.at_end=false" if not config.at_end else None
    if wrong:
        raise ConfigError(
            f"variant {variant} has {wrong}: a study compares runs by the evaluation after their last step; set "
            "eval.questions above 0 and eval.at_end=true"
        )


def _settings(config: TrainConfig) -> dict[str, object]:
    return {name: value for name, value in plain_json(config).items() if name not in _FREE}


def jobs(study: Study) -> int:
    """Runs at a time."""
    return study.config.jobs or max(1, len(os.sched_getaffinity(0)) // study.config.threads)


async def run_cells(study: Study, note: Callable[[str], None]) -> dict[str, CellState]:
    """Make every run that is not finished, and return the states of all, by cell name.

    A run that fails does not end the others; it is tried again when the study is run again. When this is cancelled,
    the runs under way stop after their step, with a checkpoint, or are ended after ``GRACE_S`` seconds.
    """
    states = states_of(study)
    left = [cell for cell in study.cells if states[cell.name].state != "finished"]
    note(f"{len(study.cells)} runs, {len(study.cells) - len(left)} finished, {jobs(study)} at a time → {study.out}")

    async def make(cell: Cell) -> None:
        try:
            states[cell.name] = await _make(cell, study, note)
        except AgentError as error:
            # What is wrong with one run's directory is no reason to end the others.
            states[cell.name] = CellState("failed", str(error))
        done = sum(state.state == "finished" for state in states.values())
        found = states[cell.name]
        note(f"{cell.name}: {found.state}{f' ({found.why})' if found.why else ''}; {done} of {len(states)} finished")

    await run_pool(left, make, jobs(study))
    return states


async def _make(cell: Cell, study: Study, note: Callable[[str], None]) -> CellState:
    resumed = (cell.path / "config.yaml").is_file()
    note(f"{cell.name}: {'resumed' if resumed else 'started'}")
    if resumed:
        await _wait_for(cell.path)
    words = ["--resume", str(cell.path)] if resumed else ["--cfg", str(cell.cfg), *cell.overrides]
    log = log_file(study, cell)
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
    code = await _train(words, log, study.config.threads)
    state = CellState.of(cell)
    return state if code == 0 and state.state == "finished" else CellState("failed", last_line(log) or f"status {code}")


async def _train(words: Iterable[str], log: Path, threads: int) -> int:
    """The exit status of ``at2po-agent train``, under a keeper that ends it when this process dies."""
    keeper = [sys.executable, "-m", "at2po_agent.policy.sglang.keeper"]
    command = [*keeper, sys.executable, "-m", "at2po_agent", "train", *words]
    with open(log, "ab") as output:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            # Ctrl-C reaches this process, which ends the run in order.
            start_new_session=True,
        )
    try:
        return await child.wait()
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.terminate()
            await child.wait()


async def _wait_for(path: Path) -> None:
    """Until a run of a study that was killed lets go of its directory: its keeper is ending it.

    Raises:
        RunDirError: another process goes on holding it.
    """
    for _ in range(int(2 * GRACE_S / _POLL_S)):
        with suppress(RunDirError):
            take_lock(path).close()
            return
        await asyncio.sleep(_POLL_S)
    take_lock(path).close()


def log_file(study: Study, cell: Cell) -> Path:
    """The file with the output of a run."""
    return study.out / "logs" / f"{cell.name}.log"


def last_line(log: Path) -> str:
    """The last line of a run's output; empty where there is none."""
    if not log.is_file():
        return ""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def compare_cells(study: Study, states: Mapping[str, CellState]) -> TrainingComparison | None:
    """The finished runs side by side, the reference first; None where none is finished.

    Raises:
        ConfigError: they cannot be compared (see ``TrainingComparison.of``).
    """
    finished: dict[str, dict[int, TrainedRun]] = {}
    for variant in sorted(study.config.variants, key=lambda name: name != study.reference):
        for cell in study.cells:
            if cell.variant == variant and states[cell.name].state == "finished":
                finished.setdefault(variant, {})[cell.seed] = TrainedRun.read(cell.path)
    if not finished:
        return None
    unfinished = {
        cell.name: _why(states[cell.name], log_file(study, cell))
        for cell in study.cells
        if states[cell.name].state != "finished"
    }
    return TrainingComparison.of([Variant(name, runs) for name, runs in finished.items()], failed=unfinished)


def _why(state: CellState, log: Path) -> str:
    """Why a run is not finished; of one that stopped, also what it said last."""
    said = last_line(log) if state.state == "unfinished" else ""
    return ": ".join(part for part in (state.state, state.why, said) if part)
