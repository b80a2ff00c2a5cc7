"""A run's directory: its configuration, manifest, metrics and trees.

Layout: ``config.yaml`` (re-runnable), ``manifest.json`` (versions and digests, one entry per session),
``metrics.jsonl`` (one line per step and per evaluation), ``trees/step_000012.jsonl.zst`` (every tree of a step) and
``checkpoints/``. One process at a time holds it. Every file but ``metrics.jsonl`` is replaced as a whole; a line that
was being written when a process died is dropped when the run is opened again.
"""

from __future__ import annotations

import dataclasses
import fcntl
import io
import json
import os
import re
import shutil
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import zstandard

from at2po_agent.atomic_files import plain_json, write_all, write_bytes, write_text, writing
from at2po_agent.errors import AgentError
from at2po_agent.settings import ConfigError, to_yaml
from at2po_agent.training.config import TrainConfig, load_config
from at2po_agent.training.metrics import Scores
from at2po_agent.training.stored_files import parse_lines, read_lines, read_packed, read_value, unchanged
from at2po_agent.training.stored_types import StoredManifest, check_metrics, check_tree
from search_backend.outside import MOST_FILE, Unusable, read_file

_PARTS = ("trees", "checkpoints")
RESUMABLE = ("train", "eval", "checkpoint", "log", "processes")  # what may change when a run goes on
ACCEPTABLE = ("data", "index", "config")  # kinds of other changes, that it can be told to accept


class RunDirError(AgentError):
    """A run directory cannot be made or opened; the message says which and what to do."""


class RunDirectory:
    """A run directory that this process holds until ``close``. Make one with ``create`` or ``resume``.

    As a context manager it removes a new directory that an error ended before ``add_session``.
    """

    def __init__(self, path: Path, config: TrainConfig, *, resumed: bool, accept: Collection[str] = ()) -> None:
        self.path, self.config, self.resumed, self.accept = path, config, resumed, accept
        self.checkpoints = path / "checkpoints"
        self._metrics = path / "metrics.jsonl"
        self._lock = take_lock(path)

    @classmethod
    def create(cls, config: TrainConfig) -> Self:
        """Make the directory that ``config.run_dir`` names, or ``runs/NAME-TIMESTAMP``.

        Raises:
            RunDirError: it exists and is not empty, or another process holds it. What a process left that was killed
                before it wrote ``config.yaml`` counts as empty.
            DiskError: it cannot be written; nothing is left of it.
        """
        path = Path(config.run_dir) if config.run_dir else _fresh(config.name)
        existed = path.exists()
        if existed and not _is_unbegun(path):
            raise _already_exists(path)
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        run = cls(path, config, resumed=False)
        if (path / "config.yaml").exists():  # another process was faster, and has ended
            run.close()
            raise _already_exists(path)
        try:
            with writing(path):
                for name in _PARTS:
                    (path / name).mkdir(exist_ok=True)
            write_text(path / "config.yaml", to_yaml(config))
        except BaseException:
            if not existed:
                shutil.rmtree(path, ignore_errors=True)
            run.close()
            raise
        return run

    @classmethod
    def resume(cls, path: Path, overrides: Sequence[str] = (), accept: Collection[str] = ()) -> Self:
        """Open an existing run to go on.

        Args:
            path: its directory.
            overrides: ``key=value`` settings, of how long and how closely, not what.
            accept: kinds of changes since its last session that it goes on with, of ``ACCEPTABLE``.

        Raises:
            RunDirError: it is no run directory, or another process holds it.
            ConfigError: an override is wrong, or touches what a resumed run must keep; there is no such kind of change.
        """
        if not (path / "config.yaml").is_file():
            raise RunDirError(f"{path} is not a run directory: it has no config.yaml")
        for text in overrides:
            if text.split("=")[0].split(".")[0] not in RESUMABLE:
                raise ConfigError(f"override {text!r}: a resumed run may change only {', '.join(RESUMABLE)}")
        for kind in accept:
            if kind not in ACCEPTABLE:
                raise ConfigError(f"there is no change of {kind!r} to accept: one of {', '.join(ACCEPTABLE)}")
        run = cls(path, load_config(path / "config.yaml", overrides), resumed=True, accept=accept)
        try:
            run._repair()
            if overrides:
                write_text(path / "config.yaml", to_yaml(run.config))
        except BaseException:
            run.close()
            raise
        return run

    def log(self, step: int, metrics: Mapping[str, Any], timings: Mapping[str, float] | None = None) -> None:
        """Append one line: ``step``, the metrics in their order, and ``time`` apart, as timings never repeat.

        A number that is not finite is written as null. Nothing is left of a line that did not fit on the disk.
        """
        record = {"step": step, **plain_json(metrics), **({"time": plain_json(timings)} if timings else {})}
        line = (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode()
        with writing(self.path), open(self._metrics, "ab", buffering=0) as file:
            start = file.seek(0, os.SEEK_END)
            try:
                write_all(file, line)
                os.fsync(file.fileno())
            except OSError:
                file.truncate(start)
                raise

    def log_evaluation(self, step: int, scores: Scores, seconds: float) -> dict[str, float]:
        """Append a line with the means, and store each question's score in ``evaluations/``; return the means.

        It replaces what was logged of an earlier evaluation of the step, as a run has that is resumed at its end.
        """
        path = self.path / "evaluations" / f"step_{step:06d}.json"
        if path.exists():
            self._keep_lines(lambda line: not _is_evaluation(line, step))
        with writing(path):
            path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps(plain_json(dataclasses.asdict(scores)), ensure_ascii=False) + "\n")
        means = {f"eval_{name}": value for name, value in scores.means.items()}
        metrics = {f"eval_{scores.metric}": scores.mean, "eval_questions": len(scores.values), **means}
        self.log(step, metrics, {"eval": seconds})
        return metrics

    def metrics(self) -> list[dict[str, Any]]:
        """Every line logged so far."""
        return list(read_metrics(self.path))

    def rewind(self, step: int) -> None:
        """Forget what was logged after ``step``, the one that the run goes on from; -1 forgets everything."""
        self._keep_lines(lambda line: bool(line["step"] <= step))
        with writing(self.path):
            for path in [*tree_files(self.path), *evaluation_files(self.path)]:
                if step_of(path) > step:
                    path.unlink()

    def is_evaluated(self, step: int) -> bool:
        """Whether an evaluation of this step is logged."""
        return any(_is_evaluation(line, step) for line in read_metrics(self.path))

    def save_trees(self, step: int, records: Iterable[Mapping[str, Any]]) -> Path:
        """Store the trees of one step, one JSON object each (see ``report.trees.tree_record``)."""
        path = self.path / "trees" / f"step_{step:06d}.jsonl.zst"
        lines = "".join(json.dumps(record, ensure_ascii=False, default=plain_json) + "\n" for record in records)
        write_bytes(path, zstandard.ZstdCompressor(level=6).compress(lines.encode()))
        return path

    def sessions(self) -> list[dict[str, Any]]:
        """See ``read_sessions``."""
        return read_sessions(self.path)

    def add_session(self, session: Mapping[str, Any]) -> None:
        """Add what this process runs on to ``manifest.json``."""
        text = json.dumps({"sessions": [*self.sessions(), session]}, indent=2, ensure_ascii=False)
        write_text(self.path / "manifest.json", text + "\n")

    def close(self) -> None:
        """Let another process have the directory. Closing twice is fine."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None and not self.resumed and not (self.path / "manifest.json").exists():
            shutil.rmtree(self.path)  # what it needs could not be opened: nothing ran
        self.close()

    def _keep_lines(self, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
        kept = [line for line in self.metrics() if wanted(line)]
        write_text(self._metrics, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))

    def _repair(self) -> None:
        """Drop a last line that a dying process did not finish."""
        if not self._metrics.exists():
            return
        try:
            data = read_file(self._metrics)
        except OSError as error:
            raise RunDirError(f"{self._metrics} cannot be read: {error.strerror or error}") from error
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) != len(data):
            write_bytes(self._metrics, whole)


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``; an unfinished last line is left out.

    Raises:
        RunDirError: another line is not JSON; the message has its number.
    """
    file = path / "metrics.jsonl"
    if not file.exists():
        return
    try:
        yield from read_lines(file, check_metrics, "a line of metrics")
    except Unusable as error:
        raise RunDirError(f"{error}; restore the file, or remove this line") from error


def read_sessions(path: Path) -> list[dict[str, Any]]:
    """The sessions that trained a run, from its ``manifest.json``; none where there is no file.

    Raises:
        RunDirError: the file is damaged.
    """
    try:
        return list(read_value(path / "manifest.json", unchanged(StoredManifest))["sessions"])
    except FileNotFoundError:
        return []
    except Unusable as error:
        raise RunDirError(f"{error}; restore or remove it") from error


def tree_files(path: Path) -> list[Path]:
    """The tree files of a run, in the order of their steps."""
    return _step_files(path / "trees", ".jsonl.zst")


def some_tree_files(run: Path) -> list[Path]:
    """``tree_files`` of a run that has some.

    Raises:
        RunDirError: it has none.
    """
    if files := tree_files(run):
        return files
    raise RunDirError(
        f"{run} has no stored trees: they are stored after step 1 and every log.trees_every steps, unless that is 0"
    )


def evaluation_files(path: Path) -> list[Path]:
    """The files with the scores of a run's evaluations, in the order of their steps."""
    return _step_files(path / "evaluations", ".json")


def _step_files(folder: Path, ending: str) -> list[Path]:
    """The files that the run itself wrote; whatever else lies beside them, such as a copy, is not its own."""
    name = re.compile(rf"step_\d{{6,}}{re.escape(ending)}", re.ASCII)
    return sorted((path for path in folder.glob("step_*") if name.fullmatch(path.name) and path.is_file()), key=step_of)


def step_of(path: Path) -> int:
    """The step that a file of ``tree_files`` or ``evaluation_files`` is of."""
    return int(path.name.removeprefix("step_").partition(".")[0])


def read_trees(file: Path, most: int = MOST_FILE) -> list[dict[str, Any]]:
    """The records of one tree file.

    Raises:
        RunDirError: it is missing or damaged, or unpacks to more than ``most`` bytes.
    """
    try:
        return list(parse_lines(file, read_packed(file, most).splitlines(), check_tree, "a stored tree"))
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise RunDirError(f"{file}: the stored trees cannot be read ({error}): restore it, or remove it") from error
    except Unusable as error:
        raise RunDirError(f"{error}; restore the file, or remove it") from error


def take_lock(path: Path) -> io.TextIOWrapper:
    """Hold a directory until the file that is returned is closed.

    Raises:
        RunDirError: another process holds it.
    """
    with writing(path):
        lock = open(path / ".lock", "w")  # noqa: SIM115 (held until close)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise RunDirError(
            f"{path} is in use by another process; wait for it to end, or choose another run_dir"
        ) from None
    # A process that is forked from this one does not hold it: it may live a moment longer.
    here = weakref.ref(lock)
    os.register_at_fork(after_in_child=lambda: _close(here))
    return lock


def _close(file: weakref.ref[io.TextIOWrapper]) -> None:
    if opened := file():
        opened.close()


def _is_unbegun(path: Path) -> bool:
    """Whether a directory holds at most what ``create`` makes before ``config.yaml``."""
    if not path.is_dir() or {entry.name for entry in path.iterdir()} - {*_PARTS, ".lock", ".tmp-config.yaml"}:
        return False
    return not any(entry for name in _PARTS for entry in (path / name).glob("*"))


def _already_exists(path: Path) -> RunDirError:
    return RunDirError(f"{path} already exists; continue it with --resume {path}, or choose another run_dir")


def _is_evaluation(line: Mapping[str, Any], step: int) -> bool:
    return line["step"] == step and "eval_questions" in line


def _fresh(name: str) -> Path:
    """``runs/NAME-TIMESTAMP``, numbered where two runs start in one second."""
    base = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    number = 1
    path = base
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path
