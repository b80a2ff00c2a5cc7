"""Check a tool that a server describes: names, a description and a JSON schema within bounds.

All of it is read by the model as part of its prompt, so nothing in it may read as a tag or as a special token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from at2po_env.errors import EnvError
from at2po_env.rendering import OPENS_A_TAG, neutralise
from search_backend.outside import Unusable, read_json, shown

MOST_CHARS = 64 * 1024
"""Characters of a tool's description, and of its schema as JSON."""

_TOOL = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_PARAMETER = re.compile(r"[A-Za-z0-9_$.-]{1,64}")
_PROSE = ("title", "description")


class BadTool(EnvError):
    """A server describes a tool in a way that no model can be told."""


@dataclass(frozen=True)
class SchemaArguments:
    """Arguments as the JSON schema of a server says. The server checks them: its refusal is a result as any other."""

    described: Mapping[str, Any] = field(hash=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The properties of the schema."""
        return tuple(self.described.get("properties", {}))

    @property
    def schema(self) -> dict[str, Any]:
        """The server's."""
        return dict(self.described)

    def checked(self, tool: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments; text for a parameter that takes none is read as JSON, as tags know only text."""
        properties = self.described.get("properties", {})
        return {name: _value(value, properties.get(name)) for name, value in given.items()}


def tool_name(name: str) -> str:
    """The name that the model uses: MCP allows ``.`` and ``/`` in names, tags and endpoints do not.

    Raises:
        BadTool: it is no name.
    """
    readable = re.sub(r"[./]", "_", name)
    if not _TOOL.fullmatch(readable):
        raise BadTool(f"a tool's name must be letters, digits, _ and -, at most 64, and is {shown(name)}")
    return readable


def tool_description(*texts: str | None) -> str:
    """The first of the texts that says something, with nothing that reads as a tag.

    Raises:
        BadTool: it is too long.
    """
    said = next((text.strip() for text in texts if text and text.strip()), "")
    if len(said) > MOST_CHARS:
        raise BadTool(f"its description has {len(said):,} characters, more than {MOST_CHARS:,}")
    return neutralise(said)


def tool_arguments(schema: Mapping[str, Any]) -> SchemaArguments:
    """The arguments of a tool by its JSON schema.

    Raises:
        BadTool: it is no JSON schema of an object, too long, too deep, or has something that reads as a tag.
    """
    from jsonschema import Draft202012Validator, SchemaError

    try:
        text = json.dumps(schema, allow_nan=False, ensure_ascii=False)
        if len(text) > MOST_CHARS:
            raise BadTool(f"its schema has {len(text):,} characters, more than {MOST_CHARS:,}")
        schema = _harmless(read_json(text))
        Draft202012Validator.check_schema(schema)
    except (Unusable, ValueError, RecursionError) as error:
        raise BadTool(f"its schema cannot be read: {error}"[:300]) from error
    except SchemaError as error:
        raise BadTool(f"its schema is no JSON Schema at {error.json_path[:100]}: {shown(error.message)}") from error
    if schema.get("type") != "object" or not isinstance(schema.get("properties", {}), dict):
        raise BadTool("its schema is not that of an object")
    for name in schema.get("properties", {}):
        if not _PARAMETER.fullmatch(name):
            raise BadTool(f"a parameter's name must be letters, digits and _-.$, at most 64, and is {shown(name)}")
    if found := OPENS_A_TAG.search(json.dumps(schema, ensure_ascii=False)):
        near = json.dumps(schema, ensure_ascii=False)[found.start() :]
        raise BadTool(f"its schema has something that reads as a tag: {shown(near)}")
    return SchemaArguments(schema)


def _harmless(value: Any) -> Any:
    """The schema with its prose as data: no tags there; a ``<`` elsewhere means something and cannot be replaced."""
    if isinstance(value, list):
        return [_harmless(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: neutralise(one) if key in _PROSE and isinstance(one, str) else _harmless(one) for key, one in value.items()
    }


def _value(value: Any, described: Any) -> Any:
    if isinstance(value, str) and not _takes_text(described):
        with suppress(ValueError, RecursionError):
            return json.loads(value, parse_constant=_refuse)
    return value


def _takes_text(described: Any) -> bool:
    if not isinstance(described, dict):
        return True
    if either := described.get("anyOf", described.get("oneOf")):
        return any(map(_takes_text, either))
    kinds = described.get("type", "string")
    return "string" in (kinds if isinstance(kinds, list) else [kinds])


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
