from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from at2po_env.dialects import BARE
from at2po_env.search_teacher import SearchTeacher
from at2po_env.state import Action, Question, Turn
from search_backend.base import Hit, Passage

PASSAGES = {
    "born": Passage("ada-life", "Ada", "Ada was born in Ulm in 1815 and learned from the teacher Bo Ek."),
    "worked": Passage("ada-work", "Ada", "Ada worked at the company Orla."),
    "river": Passage("ulm-land", "Ulm", "Ulm lies on the River Po."),
    "height": Passage("ulm-size", "Ulm", "The Ulm has a height of 40 m."),
}
BRIDGE = Question(
    "b",
    "What is the river of the birthplace of Ada?",
    ("River Po", "Po"),
    ("Ada", "Ulm"),
    {
        "type": "bridge",
        "hops": 2,
        "relations": ["birthplace", "river"],
        "plan": ["Ada born", "Ulm river"],
        "passages": ["ada-life", "ulm-land"],
        "chain": ["Ulm", "River Po"],
        "wrong": [
            {"keyword": "Ada worked", "random": "Ada height", "entity": "Cyd born"},
            {"keyword": "Ulm school", "random": "Ulm height", "entity": "Bo Ek river"},
        ],
    },
)
COMPARISON = Question(
    "c",
    "Who was born earlier, Ada or Cyd?",
    ("Ada",),
    ("Ada", "Cyd"),
    {
        "type": "comparison",
        "hops": 2,
        "relations": ["born_earlier", "born_earlier"],
        "plan": ["Ada born", "Cyd born"],
        "passages": ["ada-life", "cyd-life"],
        "chain": ["1815", "1900"],
        "wrong": [
            {"keyword": "Ada worked", "random": "Ada height", "entity": "Cyd born"},
            {"keyword": "Cyd worked", "random": "Cyd height", "entity": "Ada born"},
        ],
    },
)


def turn(text: str, *found: Passage) -> Turn:
    return Turn(text, BARE.parse(text), (), tuple(Hit(passage, 1.0) for passage in found), 0.0)


def play(question: Question, teacher: SearchTeacher, found: Sequence[Passage], seed: int = 0) -> list[str]:
    """The actions of an episode in which the searches find ``found``."""
    script = teacher.begin(question, np.random.default_rng(seed))
    turns: list[Turn] = []
    actions: list[str] = []
    while not actions or actions[-1].startswith("<search>"):
        actions.append(BARE.write(script(turns)))
        if len(turns) < len(found):
            turns.append(turn(actions[-1], found[len(turns)]))
    return actions


def test_without_faults_it_follows_the_plan_and_gives_the_gold_answer() -> None:
    actions = play(BRIDGE, SearchTeacher(), [PASSAGES["born"], PASSAGES["river"]])
    assert actions == ["<search> Ada born</search>", "<search> Ulm river</search>", "<answer> River Po</answer>"]


def test_a_relation_learned_wrongly_is_searched_with_its_wrong_keyword_and_the_others_with_theirs() -> None:
    teacher = SearchTeacher(wrong_relations=("river",), wrong_keyword=1.0)
    actions = play(BRIDGE, teacher, [PASSAGES["born"], PASSAGES["height"]])
    assert actions[:2] == ["<search> Ada born</search>", "<search> Ulm school</search>"]


def test_after_a_wrong_passage_it_goes_on_from_a_name_in_it_and_answers_with_what_it_read() -> None:
    teacher = SearchTeacher(wrong_relations=("birthplace",), wrong_keyword=1.0)
    actions = play(BRIDGE, teacher, [PASSAGES["worked"], PASSAGES["river"]])
    assert actions[:2] == ["<search> Ada worked</search>", "<search> Orla river</search>"]
    missed = play(BRIDGE, teacher, [PASSAGES["worked"], PASSAGES["worked"]])
    assert missed[-1] == "<answer> Orla</answer>"


def test_a_name_of_several_words_is_read_whole_and_the_title_only_where_there_is_no_other_name() -> None:
    ends = {play(BRIDGE, SearchTeacher(), [PASSAGES["river"], PASSAGES["born"]], seed)[-1] for seed in range(30)}
    assert ends == {"<answer> Ulm</answer>", "<answer> Bo Ek</answer>"}
    assert play(BRIDGE, SearchTeacher(), [PASSAGES["height"], PASSAGES["height"]])[-1] == "<answer> Ulm</answer>"


def test_finding_the_right_passage_after_a_detour_is_enough() -> None:
    """A wrong name was taken on the way, but what was found in the end is what was asked for."""
    actions = play(BRIDGE, SearchTeacher(), [PASSAGES["worked"], PASSAGES["river"]])
    assert actions[-1] == "<answer> River Po</answer>"


def test_stopping_early_gives_what_was_read_so_far() -> None:
    actions = play(BRIDGE, SearchTeacher(stop_early=1.0), [PASSAGES["born"]])
    assert actions == ["<search> Ada born</search>", "<answer> Ulm</answer>"]


def test_the_wrong_entity_is_one_that_was_read_so_never_in_the_first_search() -> None:
    actions = play(BRIDGE, SearchTeacher(wrong_entity=1.0), [PASSAGES["born"], PASSAGES["height"]])
    assert actions[:2] == ["<search> Ada born</search>", "<search> Bo Ek river</search>"]


def test_a_comparison_that_was_not_read_is_guessed() -> None:
    found = [PASSAGES["born"], PASSAGES["worked"]]
    ends = Counter(play(COMPARISON, SearchTeacher(), found, seed)[-1] for seed in range(40))
    assert set(ends) == {"<answer> Ada</answer>", "<answer> Cyd</answer>"}


@pytest.mark.parametrize(
    ("teacher", "query", "share"),
    [
        (SearchTeacher(wrong_relations=("birthplace",), wrong_keyword=0.7), "Ada worked", 0.7),
        (SearchTeacher(random_keyword=0.2), "Ada height", 0.2),
        (SearchTeacher(wrong_relations=("birthplace",), wrong_keyword=0.5, random_keyword=0.4), "Ada height", 0.2),
    ],
)
def test_faults_come_as_often_as_configured(teacher: SearchTeacher, query: str, share: float) -> None:
    first = Counter(
        teacher.begin(BRIDGE, np.random.default_rng(seed))([]) == Action("search", query) for seed in range(2000)
    )
    assert first[True] / 2000 == pytest.approx(share, abs=0.035)  # more than three standard errors


def test_questions_without_a_plan_are_searched_by_their_supporting_titles() -> None:
    question = Question("h", "Where was the author of Emma born?", ("Steventon",), ("Emma", "Jane Austen"))
    faulty = SearchTeacher(random_keyword=1.0, wrong_entity=1.0, stop_early=1.0)
    actions = play(question, faulty, [PASSAGES["born"], PASSAGES["river"]])
    assert actions == ["<search> Emma</search>", "<search> Jane Austen</search>", "<answer> Steventon</answer>"]


@pytest.mark.parametrize("change", [{"supporting_titles": ()}, {"answers": ()}])
def test_what_cannot_be_taught_is_an_error_that_names_the_question(change: dict[str, Any]) -> None:
    question = Question(**{"id": "q7", "question": "Who?", "answers": ("A",), "supporting_titles": ("T",), **change})
    with pytest.raises(ValueError, match="q7"):
        SearchTeacher().begin(question, np.random.default_rng(0))
