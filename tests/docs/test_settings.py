"""The tables of settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import fields
import pytest
import settings

from at2po_agent.judge.config import JudgeConfig
from at2po_agent.method.algorithms import KINDS
from at2po_agent.study.config import StudyConfig
from at2po_agent.training.config import CheckpointConfig, TrainConfig
from at2po_agent.warmstart.run import WarmStartConfig

COMPONENTS = [component for kind in KINDS for component in kind.builtin.values()]


def without_meaning(schema: type) -> Iterator[str]:
    for one in fields.described(schema):
        if dataclasses.is_dataclass(one.kind):
            yield from without_meaning(one.kind)
        elif not one.meaning:
            yield f"{schema.__module__}.{schema.__name__}.{one.name}"


@pytest.mark.parametrize("schema", [TrainConfig, WarmStartConfig, JudgeConfig, StudyConfig, *COMPONENTS])
def test_every_setting_has_a_meaning(schema: type) -> None:
    assert list(without_meaning(schema)) == []


def test_a_table_has_type_default_and_meaning() -> None:
    assert settings.table(CheckpointConfig, "checkpoint.").splitlines()[2:] == [
        "| `checkpoint.every` | whole number, ≥ 0 | `20` | steps between checkpoints; 0: only when the run stops |",
        "| `checkpoint.keep` | whole number, ≥ 1 | `2` | how many of the last checkpoints to keep |",
    ]


def test_sections_have_headings_with_their_keys() -> None:
    page = settings.tables(TrainConfig, "Training")
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert headings[:3] == ["## Training", "### `env`", "### `policy`"]
    assert "### `engine.launch`" in headings


def test_every_component_is_described() -> None:
    page = settings.components()
    assert all(f"`{kind.name}: {{name: {name}}}`" in page for kind in KINDS for name in kind.builtin)
