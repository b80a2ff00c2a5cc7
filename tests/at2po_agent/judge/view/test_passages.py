"""A shown result comes apart into what was put in, in every dialect."""

import pytest

from at2po_agent.judge.view.passages import Shown, shown_passages
from at2po_env.dialects import DIALECTS
from at2po_env.state import plain
from search_backend.base import Hit, Passage

PASSAGES = [
    ("Somon", "Somon was born in Walem: (2) Walem."),
    ("<b>Walem</b>", "A town.\nOn a river."),
    ("", "untitled"),
]


def hits(passages):
    return [Hit(Passage(str(n), title, text), float(n)) for n, (title, text) in enumerate(passages)]


def recorded(found):
    return [{"id": h.passage.id, "title": h.passage.title, "score": h.score} for h in found]


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
def test_every_dialect_is_taken_apart(dialect):
    found = hits(PASSAGES[:2])
    shown = shown_passages(plain(dialect.result(found, 6000)), recorded(found))
    assert shown == (
        Shown("Somon", 0.0, "Somon was born in Walem: (2) Walem."),
        Shown("<b>Walem</b>", 1.0, "A town.\nOn a river."),
    )


def test_a_passage_that_did_not_fit_has_no_text():
    found = hits(PASSAGES)
    shown = shown_passages(plain(DIALECTS["chat"].result(found, 20)), recorded(found))
    assert [hit.body for hit in shown] == ["Somon was born…", None, None]


def test_an_observation_of_another_form_keeps_the_titles():
    assert shown_passages('{"results": []}', recorded(hits(PASSAGES[:1]))) == (Shown("Somon", 0.0, None),)
