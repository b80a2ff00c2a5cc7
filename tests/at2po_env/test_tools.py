from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from at2po_env.errors import ToolUnavailable
from at2po_env.tools import Tool, ToolFault, result_text


def move(
    x: Annotated[int, Field(description="to the right", ge=0)], fast: bool = False, state: dict | None = None
) -> str:
    """Move a piece.

    More than the model needs.
    """
    return f"{x} {fast}"


def test_a_schema_says_what_the_function_takes() -> None:
    function = Tool.of(move).schema["function"]
    assert function["name"] == "move" and function["description"].startswith("Move a piece.")
    assert function["parameters"]["properties"] == {
        "x": {"description": "to the right", "minimum": 0, "type": "integer"},
        "fast": {"default": False, "type": "boolean"},
    }
    assert function["parameters"]["required"] == ["x"] and function["parameters"]["additionalProperties"] is False


def test_arguments_are_checked() -> None:
    tool = Tool.of(move)
    assert tool.takes_state and tool.parameters == ("x", "fast")
    assert tool.checked({"x": "3"}) == {"x": 3, "fast": False}
    for wrong, said in (({}, "x: Field required"), ({"x": -1}, "x: "), ({"x": 1, "y": 2}, "y: Extra inputs")):
        with pytest.raises(ToolFault, match=f"move: {said}"):
            tool.checked(wrong)


def nameless(x, y: int) -> str:
    """Do something."""
    return ""


def silent(x: int) -> str:
    return ""


def greedy(*xs: int) -> str:
    """Take everything."""
    return ""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (nameless, "parameter x has no annotation"),
        (silent, "has no docstring"),
        (greedy, r"\*xs: int cannot be given by name"),
        (lambda x: x, "a function with a name"),
    ],
)
def test_what_cannot_be_a_tool_is_refused(function: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Tool.of(function)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


@given(result=JSON, most=st.integers(1, 60))
def test_results_have_a_bound(result: Any, most: int) -> None:
    text = result_text("t", result, most)
    assert len(text) <= most
    whole = result_text("t", result, 10_000)
    assert text == whole if len(whole) <= most else text == whole[: most - 1] + "…"


def test_what_is_neither_text_nor_json_is_a_fault() -> None:
    for result in (object(), iter([1, 2]), {"a": {1, 2}}):
        with pytest.raises(ToolFault, match="neither text nor JSON"):
            result_text("t", result, 100)


@pytest.mark.parametrize("limit", [None, 5.0])
def test_a_service_that_is_away_is_no_fault_of_the_model(limit: float | None) -> None:
    def away() -> str:
        """Ask a service."""
        raise ToolUnavailable("the service is away")

    async def late() -> str:
        """Run out of time inside."""
        raise TimeoutError("its own")

    with pytest.raises(ToolUnavailable):
        Tool.of(away).call({}, {})
    with pytest.raises(ToolUnavailable):
        asyncio.run(Tool.of(away).acall({}, {}, timeout=limit))
    with pytest.raises(ToolFault, match=r"late: TimeoutError: its own|late: no result within 5 s"):
        asyncio.run(Tool.of(late).acall({}, {}, timeout=limit))
