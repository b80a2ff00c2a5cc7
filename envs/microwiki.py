"""MicroWiki: a generated encyclopedia in plain English with questions of one to four hops; it needs no download.

The whole world is a pure function of its :class:`WorldConfig`, on any machine and Python version. Every answer is the
title of a thing, and train, dev and test ask about three sets of things that share no title: a policy cannot answer a
held-out question from memory. All three sets stand in one encyclopedia, so their passages compete in every search.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from at2po_env.dataset import Dataset
from search_backend.base import Passage

from .demo import DEMO
from .microwiki_questions import ask
from .microwiki_world import SPLITS, World, build

VERSION = 1
"""Changes whenever the same configuration would give other text."""


MIN_ENTITIES = 40
"""The fewest things of a split: fewer would leave kinds with too few members to relate."""


def _check_whole(name: str, value: object, smallest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
        raise ValueError(f"MicroWiki: {name} must be a whole number of at least {smallest}, got {value!r}")


def _check_shares(name: str, value: object) -> None:
    shares = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [None]
    if not all(isinstance(share, float | int) and 0 <= share <= 1 for share in shares):
        raise ValueError(f"MicroWiki: {name} takes shares from 0 to 1, got {value!r}")


@dataclass(frozen=True)
class WorldConfig:
    """Everything a world depends on.

    ``hops`` holds the shares of questions of 1, 2, … hops; with ``comparison`` they add up to 1. ``detail`` counts
    additional sentences of ten words per passage.

    Raises:
        ValueError: a field is out of range; the message names it.
    """

    seed: int = 0
    train_entities: int = 2680
    dev_entities: int = 370
    test_entities: int = 730
    train_questions: int = 6000
    dev_questions: int = 500
    test_questions: int = 1000
    hops: tuple[float, ...] = (0.35, 0.37, 0.20)
    comparison: float = 0.08
    detail: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name not in ("hops", "comparison"):
                smallest = MIN_ENTITIES if field.name.endswith("_entities") else 0
                _check_whole(field.name, getattr(self, field.name), smallest)
        _check_shares("hops", self.hops)
        _check_shares("comparison", (self.comparison,))
        if not 1 <= len(self.hops) <= 4:
            raise ValueError(f"MicroWiki: hops needs the shares of 1 to 4 hop counts, got {len(self.hops)}")
        total = sum(self.hops) + self.comparison
        if abs(total - 1) > 1e-6:
            raise ValueError(f"MicroWiki: hops and comparison must add up to 1, got {total:g}")
        object.__setattr__(self, "hops", tuple(self.hops))

    @property
    def digest(self) -> str:
        """SHA-256 hex digest of the configuration and the generator's version."""
        canonical = json.dumps({"version": VERSION, **asdict(self)}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


PRESETS: Mapping[str, WorldConfig] = {
    "tiny": WorldConfig(
        train_entities=160, dev_entities=80, test_entities=80, train_questions=200, dev_questions=50, test_questions=100
    ),
    "small": WorldConfig(),
    "large": WorldConfig(
        train_entities=40_000,
        dev_entities=6_000,
        test_entities=6_000,
        train_questions=40_000,
        dev_questions=2_000,
        test_questions=4_000,
        hops=(0.25, 0.30, 0.22, 0.15),
        comparison=0.08,
        detail=7,
    ),
}
"""Named worlds: for fast tests, for the quick start, and one of more than 100k passages of about 85 words."""

DEMO_WORLD = WorldConfig(
    seed=9021,
    train_entities=MIN_ENTITIES,
    dev_entities=MIN_ENTITIES,
    test_entities=MIN_ENTITIES,
    train_questions=0,
    dev_questions=0,
    test_questions=40,
)
"""The world of the split ``demo``: one of its own, so that trying the environment tells nothing of any test split."""


def world_config(world: str | Mapping[str, Any] | WorldConfig = "small") -> WorldConfig:
    """The configuration that ``world`` means: a preset's name, or fields over the preset that ``preset`` names.

    Raises:
        ValueError: no such preset or field, or a value is out of range; the message names it.
    """
    if isinstance(world, WorldConfig):
        return world
    changes = {"preset": world} if isinstance(world, str) else dict(world)
    preset = changes.pop("preset", "small")
    if preset not in PRESETS:
        raise ValueError(f"MicroWiki: no world is named {preset!r}; there are {', '.join(PRESETS)}")
    known = [field.name for field in fields(WorldConfig)]
    for name in changes:
        if name not in known:
            raise ValueError(f"MicroWiki: a world has no {name!r}; it has preset, {', '.join(known)}")
    return replace(PRESETS[preset], **changes)


@lru_cache(maxsize=4)
def generate(config: WorldConfig) -> World:
    """Build the things of a world and what relates them; the last few worlds are kept."""
    sizes = {split: getattr(config, f"{split}_entities") for split in SPLITS}
    return build(config.seed, sizes, config.detail)


@lru_cache(maxsize=12)
def _dataset(config: WorldConfig, split: str) -> Dataset:
    count = getattr(config, f"{split}_questions")
    questions = ask(generate(config), split, count, config.hops, config.comparison)
    notes = {"world": asdict(config), "entities": getattr(config, f"{split}_entities")}
    return Dataset("microwiki", split, questions, config.digest, notes)


@lru_cache(maxsize=1)
def _demo() -> Dataset:
    test = _dataset(DEMO_WORLD, "test")
    questions = tuple(replace(q, id=f"{DEMO}-{number}") for number, q in enumerate(test.questions))
    return replace(test, split=DEMO, questions=questions)


class MicroWiki:
    """The generated world as a benchmark; the option ``world`` is what :func:`world_config` takes."""

    name = "microwiki"
    splits = (*SPLITS, DEMO)
    citation = "MicroWiki, the generated world of AT2PO"
    license = "Apache-2.0"
    metric = "em"

    def available(self, data_dir: Path | None = None) -> tuple[str, ...]:
        """All of them, as they are generated, but for ``demo``, which has to be asked for."""
        return SPLITS

    def load(
        self,
        split: str,
        data_dir: Path | None = None,
        *,
        world: str | Mapping[str, Any] | WorldConfig = "small",
    ) -> Dataset:
        """Generate the questions of ``split``; ``data_dir`` is not used.

        Raises:
            ValueError: no such split, a bad world (the message names the field), or a world for ``demo``.
        """
        config = _world_of(split, world)
        return _demo() if split == DEMO else _dataset(config, split)

    def passages(
        self,
        split: str,
        data_dir: Path | None = None,
        *,
        world: str | Mapping[str, Any] | WorldConfig = "small",
    ) -> Iterator[Passage]:
        """Stream the encyclopedia, which is the same for every split but ``demo``.

        Raises:
            ValueError: as ``load``.
        """
        return generate(_world_of(split, world)).passages()


def _world_of(split: str, world: str | Mapping[str, Any] | WorldConfig) -> WorldConfig:
    """The world that a split asks about."""
    if split not in MicroWiki.splits:
        raise ValueError(f"MicroWiki: no split is named {split!r}; there are {', '.join(MicroWiki.splits)}")
    config = world_config(world)
    if split != DEMO:
        return config
    if config != PRESETS["small"]:
        raise ValueError(f"MicroWiki: split {DEMO!r} has a small world of its own: leave world= out")
    return DEMO_WORLD


BENCHMARK = MicroWiki()
