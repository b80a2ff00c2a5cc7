"""Fields of dataclasses with type, default and meaning; the meaning is the comment beside a field or above it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
import types
import typing
from dataclasses import dataclass
from typing import Any

_PLAIN = {str: "text", bool: "true or false", int: "whole number", float: "number"}
_BOUNDS = {"at_least": "≥", "above": ">"}


@dataclass(frozen=True)
class Field:
    """A field of a dataclass, described for a reader."""

    name: str
    kind: Any  # its type, as ``typing.get_type_hints`` has it
    default: Any  # dataclasses.MISSING where there is none
    meaning: str  # empty where no comment is written
    bound: str = ""  # such as ≥ 0


def described(schema: type) -> list[Field]:
    """The fields of a dataclass, those that it inherits included, in order."""
    hints = typing.get_type_hints(schema)
    written = {name: text for base in reversed(schema.__mro__) for name, text in meanings(base).items()}
    return [
        Field(one.name, hints[one.name], _default(one), written.get(one.name, ""), _bound(one))
        for one in dataclasses.fields(schema)
    ]


def meanings(schema: type) -> dict[str, str]:
    """The comments of the fields that a dataclass declares itself, by name."""
    if not dataclasses.is_dataclass(schema):
        return {}
    source = textwrap.dedent(inspect.getsource(schema))
    lines = source.splitlines()
    comments = {
        token.start[0]: token.string.lstrip("#").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for statement in body.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            above: list[str] = []
            line = statement.lineno - 1
            while line in comments and lines[line - 1].lstrip().startswith("#"):
                above.insert(0, comments[line])
                line -= 1
            beside = [comments[at] for at in range(statement.lineno, _end(statement) + 1) if at in comments]
            if above or beside:
                found[statement.target.id] = " ".join([*above, *beside])
    return found


def words(kind: Any) -> str:
    """A type as a person says it who writes a configuration."""
    if kind is types.NoneType:
        return "null"
    if kind is Any:
        return "any value"
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(f"`{choice}`" for choice in typing.get_args(kind))
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " or ".join(words(one) for one in typing.get_args(kind))
    if typing.get_origin(kind) in (tuple, list):
        return f"list of {words(typing.get_args(kind)[0])}"
    if typing.get_origin(kind) is dict:
        key, value = typing.get_args(kind)
        return "mapping" if value is Any else f"mapping of {words(key)} to {words(value)}"
    return _PLAIN[kind] if kind in _PLAIN else str(kind.__name__)


def shown(default: Any) -> str:
    """A default as YAML has it."""
    if default is dataclasses.MISSING or default == "???":
        return "required"
    if isinstance(default, str):
        return f"`{default}`" if default else '`""`'
    return f"`{_yaml(default)}`"


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(one)}' for key, one in value.items())}}}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _default(one: dataclasses.Field[Any]) -> Any:
    return one.default if one.default_factory is dataclasses.MISSING else one.default_factory()


def _bound(one: dataclasses.Field[Any]) -> str:
    return " ".join(f"{sign} {one.metadata[key]:g}" for key, sign in _BOUNDS.items() if key in one.metadata)


def _end(statement: ast.stmt) -> int:
    return statement.end_lineno or statement.lineno
