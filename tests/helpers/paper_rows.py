"""The rows of the paper's tables: the commands of docs/paper_results.md, and what each was as a file of its own."""

from __future__ import annotations

import dataclasses
import functools
import json
import shlex
from collections.abc import Iterator
from typing import Any

from tests.helpers.places import GOLDEN, ROOT


def commands(verb: str) -> list[list[str]]:
    """The words after ``at2po-agent VERB`` of every command on the page."""
    lines = (ROOT / "docs" / "paper_results.md").read_text(encoding="utf-8").splitlines()
    begin = ["at2po-agent", verb]
    return [words[2:] for line in lines if line.startswith("at2po-agent") and (words := shlex.split(line))[:2] == begin]


@functools.cache
def rows() -> tuple[tuple[str, ...], ...]:
    """The packaged configurations that each command composes."""
    found = []
    for words in commands("train"):
        assert words[::2] == ["--cfg"] * (len(words) // 2), words
        found.append(tuple(words[1::2]))
    return tuple(found)


@functools.cache
def stored() -> dict[tuple[str, ...], dict[str, Any]]:
    """Every field of the configuration that a row was before rows were composed, by its pieces."""
    sample = json.loads((GOLDEN / "paper_configs.json").read_text(encoding="utf-8"))
    return {tuple(pieces.split()): {**sample["most"], **differ} for pieces, differ in sample["rows"].items()}


def flat(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a configuration by full name; settings without a schema are one value."""
    for entry in dataclasses.fields(section):
        value = getattr(section, entry.name)
        if dataclasses.is_dataclass(value):
            yield from flat(value, f"{prefix}{entry.name}.")
        else:
            yield f"{prefix}{entry.name}", list(value) if isinstance(value, tuple) else value
