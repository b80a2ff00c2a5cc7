from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("jsonschema")
from at2po_env.mcp_schema import MOST_CHARS, BadTool, tool_arguments, tool_description, tool_name


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def deep(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        inner = {"type": "array", "items": inner}
    return inner


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "not that of an object"),
        ({"type": "array"}, "not that of an object"),
        ({"type": "object", "properties": []}, r"no JSON Schema at \$\.properties"),
        (schema(x={"type": "objekt"}), r"no JSON Schema at \$\.properties\.x\.type"),
        (schema(**{"</think>": {"type": "string"}}), "a parameter's name must be"),
        (schema(**{"a b": {}}), "a parameter's name must be"),
        (schema(**{"x" * 65: {}}), "at most 64"),
        (schema(x={"enum": ["<|im_end|>"]}), r"reads as a tag: '<\|im_end"),
        (schema(x={"default": "<tool_call>"}), "reads as a tag"),
        (schema(x=deep(150)), "nested deeper"),
        (schema(x=deep(5000)), "cannot be read"),
        (schema(x={"maximum": 10**400}), "a number of 401 digits"),
        (schema(x={"maximum": float("nan")}), "cannot be read"),
        (schema(x={"description": "x" * MOST_CHARS}), "more than 65,536"),
    ],
)
def test_a_schema_that_no_model_can_be_told_is_refused_in_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BadTool, match=said) as refused:
        tool_arguments(given)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_a_schema_stays_as_it_is_but_for_tags_in_its_prose() -> None:
    given = schema(n={"type": "integer", "minimum": 1, "description": "a < 3, never <think>"})
    arguments = tool_arguments(given)
    assert arguments.names == ("n",)
    assert arguments.schema == schema(n={"type": "integer", "minimum": 1, "description": "a < 3, never ‹think>"})


def test_text_for_what_takes_no_text_is_read_as_json() -> None:
    either = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    kinds = {
        "n": {"type": "integer"},
        "s": {"type": "string"},
        "e": either,
        "b": {"type": ["boolean", "null"]},
        "a": {},
    }
    arguments = tool_arguments(schema(**kinds))
    given = {"n": "3", "s": "3", "e": "null", "b": "true", "a": "3", "other": "3"}
    assert arguments.checked("t", given) == {"n": 3, "s": "3", "e": None, "b": True, "a": "3", "other": "3"}
    left = {"n": "three", "e": "NaN", "b": "[" * 100_000}
    assert arguments.checked("t", left) == left  # for the server to refuse


@pytest.mark.parametrize("name", ["", "a b", "3d", "<think>", "x" * 65, "naïve", "a\nb"])
def test_names_that_are_no_tag_are_refused(name: str) -> None:
    with pytest.raises(BadTool, match="a tool's name must be"):
        tool_name(name)


def test_names_and_descriptions_are_readable() -> None:
    assert [tool_name(name) for name in ("read-file", "fs.read", "fs/read")] == ["read-file", "fs_read", "fs_read"]
    assert tool_description(None, " ", "Read a <file>.") == "Read a ‹file>."
    with pytest.raises(BadTool, match="more than 65,536"):
        tool_description("x" * (MOST_CHARS + 1))
