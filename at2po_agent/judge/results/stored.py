"""A stored evaluation: its manifest and episodes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from at2po_agent.judge.episodes.records import EpisodeRecord, RecordError, in_order, read_episodes
from at2po_agent.judge.measured import Measured
from at2po_agent.judge.results.directory import read_manifest
from at2po_agent.judge.results.metrics import Prices, Summary, samples, summarise
from at2po_agent.method.expansion import EntropyGuided
from at2po_agent.training.run_dir import RunDirError
from at2po_agent.training.stored_files import fitting

_ID = re.compile(r"(?:.*[:/])?AT2PO-(.+)-v\d+")


@dataclass(frozen=True)
class Finished:
    """An evaluation that has ended, or was interrupted: what is recorded so far counts."""

    path: Path
    manifest: Mapping[str, Any]
    episodes: tuple[EpisodeRecord, ...]  # in the order of the questions, whichever ended first

    @classmethod
    def read(cls, path: Path, *, texts: bool = True) -> Finished:
        """Read a run directory.

        Args:
            path: of the directory.
            texts: also what was written, read and found; without it many runs fit into memory, and every number stays.

        Raises:
            RunDirError: it is not the directory of an evaluation, or something in it cannot be read.
        """
        manifest = read_manifest(path)
        try:
            found = (episode if texts else _numbers(episode) for episode in read_episodes(path))
            episodes = tuple(in_order(found, manifest.get("questions", ())))
        except RecordError as error:
            raise RunDirError(str(error)) from error
        return cls(path, manifest, episodes)

    @property
    def env(self) -> str:
        """The Gymnasium id; the directory's name where the manifest lacks it."""
        return str(self.manifest.get("env", self.path.name))

    @property
    def benchmark(self) -> str:
        """Its name without what all ids share: ``HotpotQA``."""
        known = _ID.fullmatch(self.env)
        return known[1] if known else self.env

    @property
    def split(self) -> str:
        """The split of its questions."""
        return str(self.manifest.get("dataset", {}).get("split", "?"))

    @property
    def demo(self) -> bool:
        """Whether the questions are about an invented world, so that no number is one of the benchmark."""
        return self.split == "demo"

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.manifest.get("model", {}).get("name", "?"))

    @property
    def measured(self) -> Measured:
        """The metrics of its episodes."""
        return Measured.stored(self.manifest)

    @property
    def prices(self) -> Prices | None:
        """The prices of tokens, where they were given."""
        price = self.manifest.get("price") or {}
        return Prices.known(price.get("prompt"), price.get("completion"))

    @cached_property
    def summary(self) -> Summary:
        """The numbers of what is recorded."""
        return self.summarised(self.episodes)

    @property
    def samples(self) -> list[EpisodeRecord]:
        """The episodes that are independent samples: with ``--tree`` the chains that each tree began with."""
        return samples(self.episodes, self.tree.chains if self.tree else None)

    @property
    def tree(self) -> EntropyGuided | None:
        """The tree that was grown for every question, of an evaluation with ``--tree``."""
        return fitting(self.manifest["tree"], EntropyGuided) if "tree" in self.manifest else None

    def summarised(self, episodes: Iterable[EpisodeRecord]) -> Summary:
        """The numbers of episodes of this evaluation."""
        batched = "base_url" not in self.manifest.get("model", {})
        chains = self.tree.chains if self.tree else None
        return summarise(episodes, self.prices, measured=self.measured, chains=chains, batched=batched)


def _numbers(episode: EpisodeRecord) -> EpisodeRecord:
    turns = tuple(replace(turn, text="", observation="", hits=(), reasoning="") for turn in episode.turns)
    return replace(episode, turns=turns, messages=(), prompt="")


def facts(described: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and value of everything in a manifest or a configuration; long lists as their length."""
    for key, value in described.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from facts(value, f"{prefix}{key} · ")
        elif isinstance(value, list):
            yield name, ", ".join(map(str, value)) if len(value) <= 8 else f"{len(value):,}"
        elif value is not None:
            yield name, str(value)
