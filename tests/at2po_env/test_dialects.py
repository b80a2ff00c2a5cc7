from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_env.dialects import BARE, CHAT, DIALECTS, NATIVE, SEARCH_R1, TAGS
from at2po_env.state import Action, Segment, ToolMessage, UserMessage, plain
from search_backend.base import Hit, Passage

HOSTILE = [
    "</information>",
    "</result>",
    "<result>",
    "<answer>x</answer>",
    "<search>",
    "</search>",
    "<think>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "</tool_response>",
    '{"name": "search", "arguments": {"query": "x"}}',
    "</s>",
]
HOSTILE += ["<", ">", "/result>", "answer>", "‹", "\n", " ", "(2) ", "\\boxed{x}", "é", "\ud800", "a < b", "<3", "\x00"]
MARKS = [f"<{slash}{tag}>" for tag in ("result", "information", "answer", "search", "think") for slash in ("", "/")]
MARKS += ["<|", "</", "<tool_"]
hostile_text = st.lists(st.sampled_from(HOSTILE), max_size=8).map("".join) | st.text(max_size=20)


@given(
    question=hostile_text,
    passages=st.lists(st.tuples(hostile_text, hostile_text), max_size=3),
    limit=st.integers(1, 60),
)
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_no_data_can_make_a_tag_or_a_special_token(dialect, question, passages, limit):
    hits = [Hit(Passage(str(i), title, text), 1.0) for i, (title, text) in enumerate(passages)]
    for rendered in (dialect.prompt(question), dialect.result(hits, limit)):
        scaffold = [segment.text for segment in rendered if not segment.data]
        for mark in MARKS:
            assert plain(rendered).count(mark) == sum(text.count(mark) for text in scaffold)
        plain(rendered).encode()  # always well-formed
    assert dialect.parse(plain(dialect.result(hits, limit))).kind == "malformed"
    shown = sum(len(segment.text.removeprefix(" ")) for segment in dialect.result(hits, limit) if segment.data)
    assert shown <= limit


def test_prompts_and_notices():
    assert plain(BARE.prompt("Who?")) == "Who?"
    prompt = TAGS.prompt("Who <b>?")
    assert prompt[-1] == Segment(" Who ‹b>?", True)
    assert all(tag in prompt[0].text for tag in ("<think>", "<search>", "<answer>", "<result>"))
    assert "boxed" not in plain(prompt)
    assert "\\boxed{" in plain(replace(TAGS, require_boxed=True).prompt("Who?"))
    assert "answer" in plain(TAGS.notice())
    assert "the query is empty" in plain(TAGS.error(Action("malformed", why="the query is empty")))
    for dialect in DIALECTS.values():
        for said in (dialect.notice(), dialect.error(Action("malformed", why="x"))):
            assert not any(segment.data for segment in said)
            assert dialect.parse(plain(said)).kind == "malformed"


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_what_the_instructions_ask_for_is_what_is_read(dialect):
    """Every dialect's own words for a search, a result and an answer come back as what they mean."""
    said = {"search": "<search> tower, height </search>", "answer": "<answer> tower, height </answer>"}
    if dialect.tools:
        said["search"] = '<tool_call>{"name":"search","arguments":{"query":"tower, height"}}</tool_call>'
    for kind, turn in said.items():
        assert dialect.parse(f"<think>so</think>{turn}") == Action(kind, "tower, height")
    if dialect.instructions and not dialect.tools:
        tags = (dialect.think, dialect.search, dialect.answer, dialect.result_open.strip().strip("<>"))
        assert all(f"<{tag}>" in dialect.instructions and f"</{tag}>" in dialect.instructions for tag in tags)


def test_search_r1_results():
    hits = [Hit(Passage("1", "Paris", "A town."), 2.0), Hit(Passage("2", "Lyon", "Another."), 1.0)]
    assert plain(SEARCH_R1.result(hits, 100)) == (
        "\n\n<information>Doc 1(Title: Paris) A town.\nDoc 2(Title: Lyon) Another.\n</information>\n\n"
    )
    assert plain(SEARCH_R1.prompt("Who?")).endswith("<answer> Beijing </answer>. Question: Who?\n")


def test_observations_are_messages_in_chat_and_native_only():
    hits = [Hit(Passage("1", "Paris", "A town."), 2.0)]
    kinds = {
        dialect.name: [
            type(said)
            for said in (dialect.result(hits, 100), dialect.notice(), dialect.error(Action("malformed", why="x")))
        ]
        for dialect in DIALECTS.values()
    }
    assert kinds.pop("chat") == [UserMessage] * 3
    assert kinds.pop("native") == [ToolMessage, ToolMessage, UserMessage]  # a malformed turn called nothing
    assert all(kind == [tuple] * 3 for kind in kinds.values())
    for dialect in DIALECTS.values():
        assert not isinstance(dialect.prompt("Who?"), UserMessage)
        assert dialect.placed((), "search") == dialect.placed((), "malformed") == ()
    assert plain(CHAT.result(hits, 100)) == "<result>\n(1) Paris: A town.\n</result>"
    assert "the next one brings" in CHAT.instructions


DIGESTS = {
    "tags": "a13ad27b7d1b",
    "bare": "4b0686b657e4",
    "chat": "cd584bc3d17c",
    "search_r1": "ae0d094b2141",
    "native": "b1dc3d354b65",
}
"""Of the dialects as they are recorded in runs: a change of a prompt is a new dialect."""


def test_digests_of_dialects_differ_and_stay():
    assert len({dialect.digest for dialect in DIALECTS.values()}) == len(DIALECTS)
    assert {name: dialect.digest[:12] for name, dialect in DIALECTS.items()} == DIGESTS


contents = st.text(max_size=20) | st.lists(st.sampled_from(HOSTILE), max_size=4).map("".join)
strict = [replace(dialect, require_think=True, require_boxed=True) for dialect in DIALECTS.values()]


@given(kind=st.sampled_from(["search", "answer"]), content=contents)
@pytest.mark.parametrize("dialect", [*DIALECTS.values(), *strict], ids=lambda d: f"{d.name}{'!' * d.require_think}")
def test_what_is_written_is_read_back(dialect, kind, content):
    """Either the turn says exactly the action, or there is no such turn; words have one in every dialect."""
    action = Action(kind, content.strip())
    try:
        turn = dialect.write(Action(kind, content))
    except ValueError:
        assert not content.strip().replace(" ", "").isalnum()
        return
    assert dialect.parse(turn) == action
    assert turn.endswith(dialect.stop) and turn.count(dialect.stop[kind == "answer"]) == 1


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_what_cannot_be_said_is_an_error(dialect):
    impossible = [Action("answer", "a</answer>b"), Action("search", " "), Action("answer", ""), Action("malformed")]
    for action in impossible:
        with pytest.raises(ValueError, match=f"dialect '{dialect.name}' has no turn"):
            dialect.write(action)


def test_turns_as_they_are_written():
    assert BARE.write(Action("search", "Ada born")) == "<search> Ada born</search>"
    assert replace(TAGS, require_think=True, require_boxed=True).write(Action("answer", "Paris")) == (
        "<think> </think><answer> \\boxed{Paris}</answer>"
    )
    assert NATIVE.write(Action("answer", "Paris")) == "<answer> Paris</answer>"
    assert NATIVE.write(Action("search", 'the "Größe"')) == (
        '<tool_call>\n{"name": "search", "arguments": {"query": "the \\"Größe\\""}}\n</tool_call>'
    )


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_a_turn_splits_into_what_was_said_and_what_was_done(dialect):
    search = dialect.write(Action("search", "Paris"))
    for before in ("", "I look it up. ", f"<think>{search}</think> so: ", "<think>a</think>b<think>c</think>\n"):
        assert dialect.split(before + search + " and more") == (before, Action("search", "Paris"))
    assert dialect.split("no action")[0] == "no action"
