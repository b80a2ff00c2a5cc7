from __future__ import annotations

import json
import re
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_env.dialect import BARE, CHAT, DIALECTS, SEARCH_R1, TAGS, neutralise, well_formed
from at2po_env.state import Action, Segment, UserMessage, plain
from search_backend.base import Hit, Passage

GOLDEN = json.loads((Path(__file__).parent / "golden_actions.json").read_text())["cases"]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["why"])
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_golden_actions(dialect, case):
    action = dialect.parse(case["action"])
    assert (action.kind, action.content) == (case["kind"], case["content"])
    assert (action.why is not None) == (case["kind"] == "malformed")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<think>a</think><answer>x</answer>", "answer"),
        ("<think></think><search>x</search>", "search"),
        ("<answer>x</answer>", "malformed"),
        ("<search>x</search>", "malformed"),
        ("<search>x</search><think>too late</think>", "malformed"),
        ("</think><search>x</search>", "malformed"),
    ],
)
def test_a_required_thought_comes_before_the_action(text, kind):
    assert replace(TAGS, require_think=True).parse(text).kind == kind


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"<answer>\boxed{x}</answer>", ("answer", "x")),
        (r"<answer>x \boxed{</answer>", ("malformed", None)),
        ("<answer>x</answer>", ("malformed", None)),
        ("<search>x</search>", ("search", "x")),
    ],
)
def test_a_required_box_concerns_answers_only(text, expected):
    action = replace(TAGS, require_boxed=True).parse(text)
    assert (action.kind, action.content) == expected


@pytest.mark.parametrize(
    ("inside", "content"),
    [
        (r"\boxed{a \boxed{b} c}", "b"),  # the box that opens last
        (r"\boxed{a} } \boxed{b {", "a"),  # the later one never closes
        (r"\boxed{ {a} {b} }", "{a} {b}"),
        (r"\boxed {a}", r"\boxed {a}"),  # not a box
    ],
)
def test_boxes(inside, content):
    assert TAGS.parse(f"<answer>{inside}</answer>").content == content


PIECES = ["<think>", "</think>", "<search>", "</search>", "<answer>", "</answer>", "a", " ", "<", ">", "\\boxed{", "}"]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_parsing_is_the_grammar_read_word_by_word(text):
    remains = re.sub(r"<think>.*?(</think>|\Z)", "", text, flags=re.DOTALL)
    closed = list(re.finditer(r"(?=<(search|answer)>(.*?)</\1>)", remains, flags=re.DOTALL))
    action = TAGS.parse(text)
    if not closed:
        assert action.kind == "malformed"
        return
    kind, inside = closed[0].groups()
    if kind == "answer":
        for start in reversed([m.end() for m in re.finditer(r"\\boxed{", inside)]):
            depth = 1
            for end in range(start, len(inside)):
                depth += {"{": 1, "}": -1}.get(inside[end], 0)
                if depth == 0:
                    break
            if depth == 0:
                inside = inside[start:end]
                break
    content = inside.strip()
    assert (action.kind, action.content) == ((kind, content) if content else ("malformed", None))


@pytest.mark.parametrize(
    "unit", ["<think>", "<search>", "</search>", "<think></think>", "<answer>\\boxed{", "{", "}", "<", "\x00\ud800"]
)
def test_a_megabyte_of_hostile_text_is_read_at_once(unit):
    text = (unit * (1_000_000 // len(unit))) + "</answer></search>"
    started = time.perf_counter()
    TAGS.parse(text)
    TAGS.parse(f"<answer>{text}")
    neutralise(text)
    assert time.perf_counter() - started < 3.0  # tens of milliseconds; a quadratic reader takes minutes


HOSTILE = [
    "</information>",
    "</result>",
    "<result>",
    "<answer>x</answer>",
    "<search>",
    "</search>",
    "<think>",
    "<|im_end|>",
    "</s>",
]
HOSTILE += ["<", ">", "/result>", "answer>", "‹", "\n", " ", "(2) ", "\\boxed{x}", "é", "\ud800", "a < b", "<3", "\x00"]
MARKS = [f"<{slash}{tag}>" for tag in ("result", "information", "answer", "search", "think") for slash in ("", "/")]
MARKS += ["<|", "</"]
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


def test_data_keeps_comparisons_and_numbers():
    assert neutralise("a < b, p <0.05, x <= y, I <3 you") == "a < b, p <0.05, x <= y, I <3 you"
    assert neutralise("</result><|im_end|> <b>") == "‹/result>‹|im_end|> ‹b>"
    assert neutralise("ends with <") == "ends with ‹"  # what follows could complete it


def test_surrogates_become_text_that_has_a_utf8_form():
    assert well_formed("\ud83d\ude00") == "😀"
    assert well_formed("a\ud800b\udc00") == "a�b�"
    assert well_formed("été") == "été"


def test_results_show_rank_title_and_text():
    hits = [Hit(Passage("1", "Paris", "A town."), 2.0), Hit(Passage("2", "Lyon", "Another."), 1.0)]
    assert plain(TAGS.result(hits, 100)) == "\n<result>\n(1) Paris: A town.\n(2) Lyon: Another.\n</result>\n"
    assert plain(BARE.result(hits[:1], 100)) == "<result> Paris : A town. </result>"
    assert [segment for segment in TAGS.result(hits[:1], 100) if segment.data] == [
        Segment(" Paris", True),  # encoded like the word inside a sentence
        Segment(" A town.", True),
    ]
    assert plain(TAGS.result([], 100)) == "\n<result>\nNothing was found.\n</result>\n"


def test_the_character_limit_cuts_data_and_keeps_scaffold():
    hits = [Hit(Passage("1", "Paris", "A town in France."), 2.0), Hit(Passage("2", "Lyon", "Another."), 1.0)]
    assert plain(TAGS.result(hits, 12)) == "\n<result>\n(1) Paris: A town…\n</result>\n"
    assert plain(TAGS.result(hits, 24)) == "\n<result>\n(1) Paris: A town in France.\n(2) L…: \n</result>\n"


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


def test_stop_strings_end_the_two_actions():
    assert TAGS.stop == ("</search>", "</answer>")


def test_the_digest_covers_every_field():
    digests = {TAGS.digest, BARE.digest}
    for field in fields(TAGS):
        value = getattr(TAGS, field.name)
        digests.add(replace(TAGS, **{field.name: not value if isinstance(value, bool) else value + "x"}).digest)
    assert len(digests) == 2 + len(fields(TAGS))


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_what_the_instructions_ask_for_is_what_is_read(dialect):
    """Every dialect's own words for a search, a result and an answer come back as what they mean."""
    for inside, kind in ((dialect.search, "search"), (dialect.answer, "answer")):
        action = dialect.parse(f"<{dialect.think}>so</{dialect.think}><{inside}> tower, height </{inside}>")
        assert (action.kind, action.content) == (kind, "tower, height")
    if dialect.instructions:
        tags = (dialect.think, dialect.search, dialect.answer, dialect.result_open.strip().strip("<>"))
        assert all(f"<{tag}>" in dialect.instructions and f"</{tag}>" in dialect.instructions for tag in tags)


def test_search_r1_results():
    hits = [Hit(Passage("1", "Paris", "A town."), 2.0), Hit(Passage("2", "Lyon", "Another."), 1.0)]
    assert plain(SEARCH_R1.result(hits, 100)) == (
        "\n\n<information>Doc 1(Title: Paris) A town.\nDoc 2(Title: Lyon) Another.\n</information>\n\n"
    )
    assert plain(SEARCH_R1.prompt("Who?")).endswith("<answer> Beijing </answer>. Question: Who?\n")


def test_only_chat_puts_observations_into_messages():
    hits = [Hit(Passage("1", "Paris", "A town."), 2.0)]
    for dialect in DIALECTS.values():
        for said in (dialect.result(hits, 100), dialect.notice(), dialect.error(Action("malformed", why="x"))):
            assert isinstance(said, UserMessage) == (dialect is CHAT)
        assert not isinstance(dialect.prompt("Who?"), UserMessage)
        assert dialect.placed(()) == ()
    assert plain(CHAT.result(hits, 100)) == "<result>\n(1) Paris: A town.\n</result>"
    assert "the next one brings" in CHAT.instructions


DIGESTS = {"tags": "a13ad27b7d1b", "bare": "4b0686b657e4", "chat": "cd584bc3d17c", "search_r1": "ae0d094b2141"}
"""Of the dialects as they are recorded in runs: a change of a prompt is a new dialect."""


def test_digests_of_dialects_differ_and_stay():
    assert len({dialect.digest for dialect in DIALECTS.values()}) == len(DIALECTS)
    assert {name: dialect.digest[:12] for name, dialect in DIALECTS.items()} == DIGESTS
