"""The directory of an evaluation: ``config.yaml``, ``manifest.json``, ``episodes.jsonl`` and ``summary.json``.

It appears whole, with its manifest, before the first episode. Each finished episode is one line, appended and flushed
to the disk; the line that a dying process did not finish is dropped when the directory is opened again. One process
at a time holds it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from at2po_agent.atomic_files import new_directory, write_all, write_bytes, write_text, writing
from at2po_agent.judge.config import JudgeConfig, load_judge_config
from at2po_agent.judge.episodes.records import EPISODES, EpisodeRecord, RecordError, in_order, read_episodes
from at2po_agent.judge.resolve import label
from at2po_agent.judge.results.manifest import StoredManifest, changes
from at2po_agent.judge.results.metrics import Summary
from at2po_agent.settings import to_yaml
from at2po_agent.training.run_dir import RunDirError, take_lock
from at2po_agent.training.stored_files import read_value, unchanged
from search_backend.outside import Unusable, read_file

CONFIG, MANIFEST, SUMMARY = "config.yaml", "manifest.json", "summary.json"


class JudgeDirectory:
    """An evaluation's directory, held by this process until ``close``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = take_lock(path)
        self._episodes = open(path / EPISODES, "ab", buffering=0)  # noqa: SIM115 (held until close)

    @classmethod
    def create(cls, config: JudgeConfig, manifest: Mapping[str, Any]) -> Self:
        """Make ``OUT/ENV--MODEL--ID``.

        Raises:
            DiskError: it cannot be written; nothing is left of it.
        """
        path = _fresh(Path(config.out), family(config))
        with new_directory(path) as folder:
            write_text(folder / CONFIG, to_yaml(config))
            write_text(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
            write_bytes(folder / EPISODES, b"")
        return cls(path)

    @classmethod
    def resume(cls, path: Path, manifest: Mapping[str, Any]) -> Self:
        """Open a directory to go on, if what is evaluated is still the same.

        Raises:
            RunDirError: it is none, another process holds it, or something that decides the results has changed.
        """
        changed = changes(read_manifest(path), manifest)
        if changed:
            raise RunDirError(
                f"{path} cannot be resumed, because what it evaluates has changed: {'; '.join(changed)}. Restore "
                "it, or start a new evaluation without --resume"
            )
        directory = cls(path)
        try:
            directory._repair()
        except BaseException:
            directory.close()
            raise
        return directory

    def records(self) -> list[EpisodeRecord]:
        """The records so far: the last line of every episode, in the order of the questions.

        Raises:
            RunDirError: a line cannot be read.
        """
        try:
            return in_order(read_episodes(self.path), read_manifest(self.path).get("questions", ()))
        except RecordError as error:
            raise RunDirError(str(error)) from error

    def append(self, records: Iterable[EpisodeRecord]) -> None:
        """Add finished episodes.

        Raises:
            DiskError: they do not fit; nothing is left of a line that was begun.
        """
        lines = "".join(record.to_line() for record in records).encode()
        with writing(self.path / EPISODES):
            start = self._episodes.seek(0, os.SEEK_END)
            try:
                write_all(self._episodes, lines)
                os.fsync(self._episodes.fileno())
            except OSError:
                self._episodes.truncate(start)
                raise

    def finish(self, summary: Summary) -> None:
        """Write the summary."""
        write_summary(self.path, summary)

    def discard_if_empty(self) -> bool:
        """Remove the directory if nothing was ever recorded in it; returns whether it was removed."""
        if self._episodes.seek(0, os.SEEK_END):
            return False
        shutil.rmtree(self.path)
        return True

    def close(self) -> None:
        """Let another process have the directory."""
        self._episodes.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _repair(self) -> None:
        """Drop a last line that a dying process did not finish, so that the next one starts on a line of its own."""
        file = self.path / EPISODES
        try:
            data = read_file(file)
        except OSError as error:
            raise RunDirError(f"{file} cannot be read: {error.strerror or error}") from error
        with writing(file):
            self._episodes.truncate(data.rfind(b"\n") + 1)


def family(config: JudgeConfig) -> str:
    """``ENV--MODEL``: what the directories of the same evaluation start with."""
    (env,) = config.envs
    return f"{_slug(env)}--{_slug(label(config.model))}"


def latest(config: JudgeConfig) -> Path | None:
    """The newest directory of the same environment and model; None where there is none."""
    found = [path for path in Path(config.out).glob(f"{family(config)}--*") if (path / MANIFEST).is_file()]
    return max(found, key=lambda path: path.name, default=None)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of an evaluation.

    Raises:
        RunDirError: there is none, or it is not one.
    """
    try:
        return dict(read_value(path / MANIFEST, unchanged(StoredManifest)))
    except FileNotFoundError:
        raise RunDirError(f"{path} is not the directory of an evaluation: it has no {MANIFEST}") from None
    except Unusable as error:
        raise RunDirError(f"{error}; restore the file, or start a new evaluation") from error


def write_summary(path: Path, summary: Summary) -> None:
    """Write ``summary.json`` into an evaluation's directory: the numbers, and what they are of."""
    manifest = read_manifest(path)
    of = {"env": manifest.get("env"), "split": manifest.get("dataset", {}).get("split")}
    write_text(path / SUMMARY, json.dumps(of | summary.to_json(), indent=1) + "\n")


def read_config(path: Path, overrides: Sequence[str] = ()) -> JudgeConfig:
    """The configuration of an evaluation.

    Raises:
        RunDirError: there is none.
        ConfigError: it, or an override, cannot be used.
    """
    if not (path / CONFIG).is_file():
        raise RunDirError(f"{path} is not the directory of an evaluation: it has no {CONFIG}")
    return load_judge_config(path / CONFIG, overrides)


def _fresh(out: Path, prefix: str) -> Path:
    base = f"{prefix}--{datetime.now():%Y%m%d-%H%M%S}"
    number, path = 1, out / base
    while path.exists():
        number += 1
        path = out / f"{base}-{number}"
    return path


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "model"
