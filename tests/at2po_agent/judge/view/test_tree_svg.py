"""Trees as drawings: every turn with its numbers, well-formed whatever the texts are, and no box over another."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from at2po_agent.judge.view.tree_svg import draw_tree, tree_svg
from at2po_agent.method.tree import Branch
from at2po_env.tasks import Task
from tests.helpers.stored_trees import WORDS, grown, record

HOSTILE = '</text><script>x()</script>"&\x00\x0b\ud800\ufffe\uffff\U0001fffe\u202e'


def drawn(svg: str) -> tuple[ElementTree.Element, list[str]]:
    """The root element, and every text in it; parsed, so well formed."""
    root = ElementTree.fromstring(svg.encode())
    return root, ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]


def boxes(root: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of the turns' boxes."""
    found = [rect.attrib for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("width") == "200"]
    sides = [[float(one[name]) for name in ("x", "y", "width", "height")] for one in found]
    return [(x, y, x + width, y + height) for x, y, width, height in sides]


def test_every_turn_is_there_with_its_numbers() -> None:
    _, texts = drawn(tree_svg(record(grown())))
    assert texts[:2] == ["Who [b]?", "gold answer: A | B"]
    for line in ("search x", "y", "turn right", "✓ reward 1", "turn wrong", "✗ reward 0", "✗ reward −1, malformed"):
        assert line in texts
    assert "H 0.25 · V +1.50 · A +1.50" in texts and "H 2.00 · V −0.50 · A −0.50" in texts
    assert any(text.startswith("H 0.50 · V +0.50 · A −0.25") for text in texts)


@pytest.mark.parametrize("dark", [False, True])
def test_hostile_texts_stay_texts(dark: bool) -> None:
    words = dict.fromkeys(WORDS, HOSTILE)
    svg = tree_svg(record(grown(), words, question=HOSTILE, answers=[HOSTILE]), dark=dark)
    root, texts = drawn(svg)
    assert "script" not in {element.tag.split("}")[1] for element in root.iter()}
    assert texts[0].startswith('</text><script>x()</script>"&�')


def test_long_texts_are_cut_and_wide_ones_sooner() -> None:
    def label(text: str) -> str:
        _, texts = drawn(tree_svg(record(grown(), {**WORDS, 4: text})))
        return next(shown for shown in texts if shown.startswith("turn") and shown.endswith("…"))

    assert len(label("word " * 40)) > 1.5 * len(label("語" * 200)) > 10


def test_what_came_back_takes_two_lines_broken_before_a_word() -> None:
    _, texts = drawn(tree_svg(record(grown(), {**WORDS, 3: "<result> Kefal was founded in 1661 by Zolum </result>"})))
    first = next(at for at, text in enumerate(texts) if text.startswith("Kefal"))
    assert " ".join(texts[first : first + 2]) == "Kefal was founded in 1661 by Zolum"


def test_links_tell_branches_from_first_chains() -> None:
    tree = grown()
    tree.proposals = [(Branch(0, 0),), (Branch(1, 0),), (Branch(0, 1),)]
    links = [line for line in tree_svg(record(tree)).splitlines() if re.match(r'<path d="M\S+ \S+C', line)]
    assert ["stroke-dasharray" in link for link in links] == [False, False, True, True]


def test_a_credit_without_values_and_a_task_without_answers() -> None:
    _, texts = drawn(tree_svg(record(grown(), values=None, answers=[])))
    assert "H 0.25 · A +1.50" in texts and not any("gold" in text for text in texts)


def test_boxes_are_inside_the_picture_and_do_not_overlap() -> None:
    root, _ = drawn(tree_svg(record(grown())))
    places = boxes(root)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert len(places) == 4
    for at, (left, top, right, bottom) in enumerate(places):
        assert 0 < left < right < width and 0 < top < bottom < height
        for x, y, to_x, to_y in places[at + 1 :]:
            assert x >= right or to_x <= left or y >= bottom or to_y <= top


def test_a_grown_tree_is_drawn_without_a_run() -> None:
    tree = grown()
    advantages = [[0.5] * len(path) for _, path in tree.trajectories()]
    svg = draw_tree(tree, Task("q1", "Who?"), advantages, lambda ids: " ".join(WORDS[i] for i in ids))
    _, texts = drawn(svg)
    assert texts[0] == "Who?" and "H 0.25 · A +0.50" in texts
