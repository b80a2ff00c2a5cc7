from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_env.scoring import REWARDS, contains, exact_match, f1, judge, normalise
from at2po_env.state import Question


@pytest.mark.parametrize(
    ("prediction", "answers", "em", "best_f1", "cover"),
    [
        ("Paris", ["Paris"], 1, 1, 1),
        ("the paris!", ["Paris"], 1, 1, 1),
        ("Paris, France", ["Paris"], 0, 2 / 3, 1),  # precision 1/2, recall 1
        ("Tower A of London", ["the London tower", "Rome"], 0, 4 / 5, 0),  # "tower of london": 2/3 and 2/2
        ("London", ["Paris", "London"], 1, 1, 1),
        ("a a b", ["b"], 1, 1, 1),  # "a" is an article
        ("c c b", ["c b b"], 0, 2 / 3, 0),  # tokens count as often as they occur
        ("yes it is", ["yes"], 0, 0, 1),  # official: closed answers are all or nothing
        ("no", ["no way"], 0, 0, 0),
        ("noanswer", ["noanswer"], 1, 1, 1),
        ("", ["Paris"], 0, 0, 0),
        ("Paris", ["The"], 0, 0, 0),  # normalises to nothing, which is in everything
        ("Zoë", ["Zoe"], 0, 0, 0),  # the official script keeps accents
    ],
)
def test_worked_by_hand(prediction, answers, em, best_f1, cover):
    assert exact_match(prediction, answers) == em
    assert f1(prediction, answers) == pytest.approx(best_f1)
    assert contains(prediction, answers) == cover


def test_normalisation_removes_punctuation_before_articles():
    assert normalise("The  A-Team, an\tend.") == "ateam end"
    assert normalise("U.S.A.") == "usa"


texts = st.text(alphabet="ab the,.- yes no", max_size=12)


@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_scores_agree_with_each_other(prediction, answers):
    em, best_f1, cover = (score(prediction, answers) for score in (exact_match, f1, contains))
    assert em <= cover
    assert 0 <= best_f1 <= 1
    assert best_f1 == 1 or not em or not normalise(prediction)
    assert exact_match(answers[0], answers) == 1


def test_nothing_to_score_against_is_an_error():
    for score in (exact_match, f1, contains):
        with pytest.raises(ValueError, match="no gold answer"):
            score("x", [])
        with pytest.raises(TypeError, match="not one string"):
            score("x", "xyz")


QUESTION = Question("q", "?", ("Paris",))


@pytest.mark.parametrize(
    ("ended", "prediction", "em", "f1_", "em_or_format"),
    [
        ("answer", "Paris", 1, 1, 1),
        ("answer", "in Paris", 0, 2 / 3, 0),
        ("malformed", None, 0, 0, -1),
        ("search_limit", None, 0, 0, -1),
        ("turn_limit", None, 0, 0, -1),
        ("length_limit", None, 0, 0, -1),
    ],
)
def test_rewards(ended, prediction, em, f1_, em_or_format):
    outcome = judge(QUESTION, ended, prediction, searches=2, turns=3)
    assert (outcome.searches, outcome.turns, outcome.prediction) == (2, 3, prediction)
    assert REWARDS["em"](outcome) == em
    assert REWARDS["f1"](outcome) == pytest.approx(f1_)
    assert REWARDS["em_or_format"](outcome) == em_or_format
