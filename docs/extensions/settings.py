"""Tables of the settings of a configuration, from its dataclasses, as Markdown."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator

import fields


def tables(schema: type, title: str, level: int = 2) -> str:
    """A table of every section of a configuration.

    Args:
        schema: the dataclass of its root.
        title: the heading of the root's own table.
        level: of the headings.
    """
    return "\n\n".join(_sections(schema, "", title, level))


def table(schema: type, prefix: str = "") -> str:
    """The fields of one dataclass, without those that are sections of their own; empty where there is none.

    Args:
        schema: the dataclass.
        prefix: what stands before each name in a configuration.
    """
    plain = [one for one in fields.described(schema) if not dataclasses.is_dataclass(one.kind)]
    if not plain:
        return ""
    cells = [(f"`{prefix}{one.name}`", _kind(one), fields.shown(one.default), _cell(one.meaning)) for one in plain]
    rows = [("setting", "type", "default", "meaning"), ("---",) * 4, *cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def components() -> str:
    """A table of the settings of every built-in component of an algorithm, by its kind and name."""
    from at2po_agent.method.algorithms import KINDS

    parts = []
    for kind in KINDS:
        parts.append(f"### `algorithm.{kind.name}`")
        for name, component in kind.builtin.items():
            parts.append(f"#### `{kind.name}: {{name: {name}}}`\n\n{_summary(component)}")
            parts.append(table(component) or "It has no settings.")
    return "\n\n".join(parts)


def _sections(schema: type, path: str, title: str, level: int) -> Iterator[str]:
    yield f"{'#' * level} {title}\n\n{_summary(schema)}"
    if rows := table(schema, f"{path}." if path else ""):
        yield rows
    for one in fields.described(schema):
        if dataclasses.is_dataclass(one.kind):
            assert isinstance(one.kind, type)
            key = f"{path}.{one.name}" if path else one.name
            yield from _sections(one.kind, key, f"`{key}`", level + (not path))


def _kind(one: fields.Field) -> str:
    said = fields.words(one.kind)
    return _cell(f"{said}, {one.bound}" if one.bound else said)


def _summary(schema: type) -> str:
    """The docstring of a class, in Markdown."""
    return (inspect.getdoc(schema) or "").replace("``", "`")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
