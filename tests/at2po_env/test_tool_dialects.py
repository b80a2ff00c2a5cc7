from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_env.state import ToolPrompt, plain
from at2po_env.tool_dialects import TOOL_DIALECTS, ToolAction
from at2po_env.tools import Tool


def say(text: str) -> str:
    """Say something."""
    return text


def put(what: str, where: int) -> str:
    """Put something somewhere."""
    return ""


def look() -> str:
    """Look around."""
    return ""


TOOLS = {tool.name: tool for tool in map(Tool.of, (say, put, look))}
WORDS = st.text('abc 12<>/{}"\\é', min_size=1, max_size=12).filter(lambda text: text.strip() == text)


@pytest.mark.parametrize("name", TOOL_DIALECTS)
@given(what=WORDS, where=st.integers(-9, 99))
def test_what_is_written_is_read_back(name: str, what: str, where: int) -> None:
    dialect = TOOL_DIALECTS[name]
    for action in (
        ToolAction("call", "put", {"what": what, "where": where}),
        ToolAction("call", "look"),
        ToolAction("answer", content="42"),
    ):
        try:
            turn = dialect.write(action, TOOLS)
        except ValueError:
            assert "<" in what  # what is put would end the call
            continue
        assert dialect.parse(turn, TOOLS) == action or "<" in what
        assert dialect.parse(f"<think>no <look></look></think>{turn} more", TOOLS).kind == action.kind


@pytest.mark.parametrize("name", TOOL_DIALECTS)
def test_the_first_prompt_tells_of_the_tools(name: str) -> None:
    prompt = TOOL_DIALECTS[name].prompt("Do <it>.", tuple(TOOLS.values()))
    assert plain(prompt).endswith("Do ‹it>.")
    told = [f"<{tool}>" for tool in TOOLS]
    if name == "native":
        assert isinstance(prompt, ToolPrompt) and [tool["function"]["name"] for tool in prompt.tools] == list(TOOLS)
    elif name != "bare":
        assert all(tag in plain(prompt) for tag in told)


def test_generation_stops_where_a_call_is_complete() -> None:
    assert TOOL_DIALECTS["tags"].stop(tuple(TOOLS.values())) == ("</say>", "</put>", "</look>", "</answer>")
    assert TOOL_DIALECTS["native"].stop(tuple(TOOLS.values())) == ("</tool_call>", "</answer>")


@pytest.mark.parametrize("unit", ["<say>", "</say>", "<think>", "<tool_call>", "{", "[", '{"a":', "<answer>"])
@pytest.mark.parametrize("name", ["tags", "native"])
def test_hostile_text_is_read_at_once(name: str, unit: str) -> None:
    started = time.perf_counter()
    for text in (unit * 100_000, f"<say>{unit * 100_000}</say>", f"<tool_call>{unit * 100_000}</tool_call>"):
        assert TOOL_DIALECTS[name].parse(text, TOOLS).kind in ("call", "answer", "malformed")
    assert time.perf_counter() - started < 10  # a quadratic reader takes minutes
