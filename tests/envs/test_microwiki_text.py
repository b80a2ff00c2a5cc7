import re

import pytest

from envs.microwiki import BENCHMARK, generate, world_config
from envs.microwiki_text import COMPARISONS, DETAILS, ENDS, KINDS, RELATIONS, STARTS, names

STATED = [*RELATIONS.values(), *COMPARISONS.values()]


def terms(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def test_there_are_enough_relations_and_each_starts_and_ends_at_a_kind():
    assert len(RELATIONS) >= 11
    assert {kind for r in RELATIONS.values() for kind in (r.subject, r.target)} == set(KINDS)
    assert sum(kind.share for kind in KINDS.values()) == pytest.approx(1)


def test_some_keywords_stand_in_the_question_and_some_must_be_learned():
    given = [r for r in RELATIONS.values() if r.keyword in terms(r.phrase)]
    assert 3 <= len(given) <= len(RELATIONS) / 2


@pytest.mark.parametrize("detail", [0, 16])
def test_a_keyword_tells_the_two_passages_of_a_thing_apart_and_nothing_else_does(detail):
    world = generate(world_config({"preset": "tiny", "detail": detail}))
    passages = {passage.id: passage for passage in world.passages()}
    for entity in world.entities:
        sides = {side: terms(passages[entity.passage_id(side)].text) for side in KINDS[entity.kind].sides}
        lengths = {len(side) for side in sides.values()}
        assert len(lengths) == 1, sides
        name = entity.name.lower()
        assert len({side.count(name) for side in sides.values()}) == 1, sides
        for stated in STATED:
            if stated.subject == entity.kind:
                other = next(side for side in sides if side != stated.side)
                assert stated.keyword in sides[stated.side] and stated.keyword not in sides[other]
                assert stated.misleading in sides[other] and stated.misleading not in sides[stated.side]


def test_details_are_alike_in_length_and_hold_no_word_of_a_query():
    queries = {word for stated in STATED for word in (stated.keyword, stated.misleading)}
    for detail in DETAILS:
        assert len(terms(detail)) == 10, detail
        assert not set(terms(detail)) & queries, detail


def test_names_are_built_of_syllables_in_one_way_only():
    two = names(2)
    assert len(set(two)) == len(two) == len(set(map(str.lower, two)))
    assert len(two) > 4000 and len(names(3)) > 200_000
    for name in two[::97]:
        assert [(s, e) for s in STARTS for e in ENDS if s + e == name] == [(name[:-3], name[-3:])]
    assert "Milan" not in two and "Lemon" not in two


def test_text_needs_no_special_care_of_a_tokenizer():
    for passage in BENCHMARK.passages("test", None, world="small"):
        assert re.fullmatch(r"[A-Z][a-z]+( [A-Za-z]+,?| \d+)+\.", passage.text), passage.text
    for question in BENCHMARK.load("test", None, world="small").questions:
        assert re.fullmatch(r"[A-Z][a-z]+( [A-Za-z]+,?)+\?", question.question), question.question
