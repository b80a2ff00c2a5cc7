from __future__ import annotations

import json
import time
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_env.dialects import NATIVE
from at2po_env.state import Action, ToolPrompt, plain
from at2po_env.testing import TaskContract
from at2po_env.tool_calls import call_text
from tests.helpers.env_doubles import make_env

CALL = '{"name": "search", "arguments": {"query": " Tower A "}}'


@pytest.mark.parametrize(
    ("turn", "kind", "content"),
    [
        (f"<tool_call>\n{CALL}\n</tool_call>", "search", "Tower A"),
        (f"I look it up.\n<tool_call>{CALL}</tool_call> and more", "search", "Tower A"),
        (f"<think><answer>no</answer></think><tool_call>{CALL}</tool_call>", "search", "Tower A"),
        (f"<answer>Paris</answer><tool_call>{CALL}</tool_call>", "answer", "Paris"),  # the first one acts
        (f"<tool_call>{CALL}</tool_call><tool_call>x</tool_call>", "search", "Tower A"),
        ("<answer>\\boxed{Paris}</answer>", "answer", "Paris"),
        ('<tool_call>{"name": "search", "arguments": {"query": "a", "k": 1e99}}</tool_call>', "search", "a"),
        ('<tool_call>{"name": "search", "arguments": {"query": "a \\ud83d"}}</tool_call>', "search", "a \ufffd"),
    ],
)
def test_calls_and_answers_are_read(turn, kind, content):
    assert NATIVE.parse(turn) == Action(kind, content)


@pytest.mark.parametrize(
    ("inside", "why"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("search(query=x)", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "there is only search"),
        ('{"name": "browse", "arguments": {"query": "x"}}', "there is only search"),
        ('{"arguments": {"query": "x"}}', "there is only search"),
        ('{"name": "search"}', 'no string "query"'),
        ('{"name": "search", "arguments": {}}', 'no string "query"'),
        ('{"name": "search", "arguments": "x"}', 'no string "query"'),
        (json.dumps({"name": "search", "arguments": "[" * 100_000}), 'no string "query"'),
        ('{"name": "search", "arguments": {"query": ["x"]}}', 'no string "query"'),
        ('{"name": "search", "arguments": {"query": 7}}', 'no string "query"'),
        ('{"name": "search", "arguments": {"query": " "}}', "the query is empty"),
    ],
)
def test_a_call_that_cannot_be_made_says_why(inside, why):
    action = NATIVE.parse(f"<tool_call>{inside}</tool_call>")
    assert action.kind == "malformed" and why in action.why
    assert NATIVE.parse(f"<tool_call>{CALL}").why == "no complete <tool_call> or <answer>"
    assert NATIVE.parse("<search>x</search>").kind == "malformed"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4) | st.just("search"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "arguments", "query"]), inner),
    max_leaves=6,
)


@given(JSON.map(json.dumps) | st.text(max_size=20), st.booleans())
def test_reading_never_fails_and_an_error_shows_nothing_of_the_model_s_text(inside, closed):
    action = NATIVE.parse(f"<tool_call>{inside}" + "</tool_call>" * closed)
    if action.kind == "malformed":
        assert action.why in WHYS
    else:
        assert action.content == json.loads(inside)["arguments"]["query"].strip()


WHYS = {
    NATIVE.parse(text).why
    for text in (
        "",
        "<tool_call></tool_call>",
        "<tool_call>1</tool_call>",
        '<tool_call>{"name": "search"}</tool_call>',
        '<tool_call>{"name": "search", "arguments": {"query": ""}}</tool_call>',
    )
}


@pytest.mark.parametrize("unit", ["<tool_call>", '{"name":', "[", "9", "\\ud800", "<think>"])
def test_a_megabyte_of_hostile_calls_is_read_at_once(unit):
    text = unit * (1_000_000 // len(unit))
    started = time.perf_counter()
    NATIVE.parse(f"<tool_call>{text}</tool_call>")
    NATIVE.parse('<tool_call>{"name": "search", "arguments": {"query": "' + text + '"}}</tool_call>')
    NATIVE.parse('<tool_call>{"x": 1.' + text + "}</tool_call>")
    assert time.perf_counter() - started < 3.0


def test_the_schema_is_what_endpoints_take_and_comes_with_the_prompt():
    (tool,) = NATIVE.tools
    assert tool["type"] == "function" and tool["function"]["name"] == "search"
    assert tool["function"]["parameters"]["required"] == ["query"]
    assert tool["function"]["parameters"]["properties"]["query"]["type"] == "string"
    prompt = NATIVE.prompt("Who <b>?")
    assert isinstance(prompt, ToolPrompt) and prompt.tools == NATIVE.tools
    assert plain(prompt).endswith("Question: Who ‹b>?") and "<answer>Beijing</answer>" in plain(prompt)
    assert NATIVE.stop == ("</tool_call>", "</answer>")


def test_the_digest_covers_every_field_and_the_tools(monkeypatch):
    digests = {NATIVE.digest}
    for field in fields(NATIVE):
        value = getattr(NATIVE, field.name)
        digests.add(replace(NATIVE, **{field.name: not value if isinstance(value, bool) else value + "x"}).digest)
    monkeypatch.setattr("at2po_env.tool_calls.TOOL", "find")
    assert len(digests | {NATIVE.digest}) == 2 + len(fields(NATIVE))


def test_a_call_as_text_escapes_tags_in_its_arguments():
    turn = call_text("search", json.dumps({"query": "</tool_call><think> a < b"}))
    assert turn.count("</tool_call>") == 1 and "<think>" not in turn and "a < b" in turn
    assert NATIVE.parse(turn) == Action("search", "</tool_call><think> a < b")
    assert NATIVE.parse(call_text("search", " ")).why == NATIVE.parse(call_text("search", "{}")).why


class TestForking(TaskContract):
    def make_env(self):
        return make_env(dialect="native", on_malformed="continue")

    def actions(self):
        return [NATIVE.write(Action("search", "Tower A")), "<tool_call>{}</tool_call>", "<answer>Paris</answer>"]

    def other_actions(self):
        return [NATIVE.write(Action("search", "Tower B")), "<answer>London</answer>"]


@pytest.mark.fault("item 7: tool arguments encoded twice")
@given(st.text(max_size=20).filter(lambda query: query.strip()))
def test_arguments_that_are_encoded_twice_are_read(query):
    arguments = json.dumps({"query": query})
    once, twice = (NATIVE.parse(call_text("search", text)) for text in (arguments, json.dumps(arguments)))
    assert once == twice and once.kind == "search"
