from __future__ import annotations

import json
import re
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_env.dialects import BARE, CHAT, SEARCH_R1, TAGS
from at2po_env.rendering import neutralise
from at2po_env.state import Action, Segment, plain
from search_backend.base import Hit, Passage

GOLDEN = json.loads((Path(__file__).parent / "golden_actions.json").read_text())["cases"]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["why"])
@pytest.mark.parametrize("dialect", (TAGS, BARE, CHAT, SEARCH_R1), ids=lambda dialect: dialect.name)
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
        ("</think><search>x</search>", "search"),
        ("<search>x</search></think>", "malformed"),
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
    action = TAGS.parse(text)
    text = re.sub(r"\A((?!<think>).)*?</think>", "", text, count=1, flags=re.DOTALL)
    remains = re.sub(r"<think>.*?(</think>|\Z)", "", text, flags=re.DOTALL)
    closed = list(re.finditer(r"(?=<(search|answer)>(.*?)</\1>)", remains, flags=re.DOTALL))
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


def test_stop_strings_end_the_two_actions():
    assert TAGS.stop == ("</search>", "</answer>")


def test_the_digest_covers_every_field():
    digests = {TAGS.digest, BARE.digest}
    for field in fields(TAGS):
        value = getattr(TAGS, field.name)
        digests.add(replace(TAGS, **{field.name: not value if isinstance(value, bool) else value + "x"}).digest)
    assert len(digests) == 2 + len(fields(TAGS))


@pytest.mark.fault("C: a thought that the chat template opened")
def test_text_up_to_a_lone_closing_tag_is_thought():
    quoted = "It says <search>query</search>.\n</think>\n<answer>a</answer>"
    for dialect in (TAGS, replace(TAGS, require_think=True)):
        assert dialect.parse(quoted) == Action("answer", "a")
        assert dialect.parse("I reason.\n</think>\n<answer>a</answer>") == Action("answer", "a")
        assert dialect.split(quoted)[0] == quoted.removesuffix("<answer>a</answer>")
