"""The page in a real browser: Debian's chromium, driven by playwright. Nothing may be asked of a network, no error may
reach the console, and nothing that was read may act."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from at2po_agent.judge.view.run_page import write_report
from tests.at2po_agent.judge.results.test_tree_report import RESULT
from tests.at2po_agent.judge.view.test_page_trees import write_training
from tests.helpers.evaluations import answer_turn, answered, failed, malformed, search_turn, write_run

pytestmark = pytest.mark.service

EVIL = (
    "</script><script>window.hacked=1</script><img src='https://evil.example/x' onerror='window.hacked=1'>"
    "\"'`${window.hacked=1}"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium to open the page in")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


class Page:
    """A page with what went wrong on it."""

    def __init__(self, context: Any, file: Path, link: str) -> None:
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.tab = context.new_page()
        self.tab.on("console", lambda message: self.problems.append(f"{message.type}: {message.text}"))
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(file.as_uri() + link)
        self.tab.wait_for_selector("#head h1")
        self.file = file

    def rows(self) -> list[str]:
        return self.tab.locator(".row .question").all_inner_texts()

    def check(self) -> None:
        assert self.problems == []
        assert [url.split("#")[0] for url in self.requests] == [self.file.as_uri()]
        assert self.tab.evaluate("window.hacked") is None


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    contexts = []

    def open_page(file: Path, link: str = "", **options: Any) -> Page:
        contexts.append(browser.new_context(**{"viewport": {"width": 1300, "height": 850}, **options}))
        return Page(contexts[-1], file, link)

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    hostile = (search_turn(EVIL, [(EVIL, EVIL), ("Somon", "\u202edesrever")]), answer_turn(EVIL))
    episodes = [
        answered("q1", question="Where was Somon born?"),
        answered("q2", "Rom", question="Where was Lavin born?"),
        malformed("q3"),
        failed("q4"),
        answered("q5", EVIL, question=EVIL, turns=hostile, prompt=EVIL),
    ]
    write_report(write_run(folder / "run", episodes, model={"name": EVIL}), folder / "page.html", 0)
    return folder / "page.html"


def test_filters_and_search(opened, evaluation):
    page = opened(evaluation)
    tab = page.tab
    assert [
        tab.locator(f'[data-filter="{name}"] .n').inner_text() for name in ("all", "correct", "wrong", "error")
    ] == ["5", "1", "3", "1"]
    tab.click('[data-filter="error"]')
    assert page.rows() == ["Who?"]
    assert tab.locator(".row .answer").inner_text() == "HTTP 503 after 8 tries"
    assert tab.get_attribute('[data-filter="error"]', "aria-pressed") == "true"
    tab.click('[data-filter="all"]')
    tab.fill("#find", "lavin BORN")
    assert page.rows() == ["Where was Lavin born?"]
    tab.fill("#find", "nothing like it")
    assert "Nothing here fits" in tab.inner_text("#list")
    page.check()


def test_reading_an_episode(opened, evaluation):
    page = opened(evaluation)
    tab = page.tab
    tab.click(".row >> nth=1")
    tab.wait_for_selector("h2:has-text('Lavin')")
    assert "Rom" in tab.inner_text(".verdict")
    assert tab.locator(".turn h3").all_inner_texts()[0].startswith("Turn 1")
    assert tab.inner_text(".turn .search .said") == "Somon born"
    gold = tab.locator(".passage.is-gold")
    assert gold.count() == 1
    assert "Somon was born in Walem." not in tab.inner_text("#reader")
    gold.locator("summary").click()
    assert "Somon was born in Walem." in tab.inner_text("#reader")
    page.check()


def test_the_numbers_with_their_intervals(opened, evaluation):
    page = opened(evaluation)
    assert page.tab.inner_text(".hero .big").replace("\n", "") == "25.0 %"
    assert "95 % interval 0.6 – 80.6, 4 questions" in page.tab.inner_text(".hero")
    assert "1 episode ended by infrastructure" in page.tab.inner_text(".hero")
    assert page.tab.get_attribute('.measure dt:text-is("Turns")', "title") == "Turns of an episode (turns)"
    page.tab.click(".facts summary")
    assert "max searches" in page.tab.inner_text(".facts")


def test_a_tree_evaluation_shows_its_methods_and_its_curve(opened, tmp_path):
    run = write_run(tmp_path / "run", [answered("q1", sample=n) for n in range(3)])
    (run / "tree.json").write_text(json.dumps(RESULT.to_json()))
    write_report(run, tmp_path / "page.html", 0)
    page = opened(tmp_path / "page.html")
    (row,) = [row for row in page.tab.locator(".trees tbody tr").all_inner_texts() if "majority of leaves" in row]
    assert row.split("\t")[:2] == ["majority of leaves", "100.0 %"] and "+50.0 [" in row
    lines = page.tab.locator(".curve polyline")
    assert lines.count() == len(RESULT.curve)
    assert lines.nth(2).get_attribute("points").endswith("564.0,10.0")  # 100 % at the most tokens
    page.check()


def test_nothing_that_was_read_acts(opened, evaluation):
    page = opened(evaluation)
    tab = page.tab
    tab.click(".row >> nth=4")
    tab.wait_for_selector("h2:has-text('hacked')")
    assert tab.inner_text("#reader h2") == EVIL
    assert EVIL in tab.inner_text(".subtitle")
    tab.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    assert "⟨U+202E⟩desrever" in tab.inner_text("#reader")
    assert tab.locator("#reader img, #reader script, #list script").count() == 0
    page.check()


def test_the_keyboard_is_enough(opened, evaluation):
    page = opened(evaluation)
    tab = page.tab
    tab.focus("#list")
    tab.keyboard.press("ArrowDown")
    tab.wait_for_selector("h2:has-text('Lavin')")
    assert tab.get_attribute("#list", "aria-activedescendant") == "row-1"
    tab.keyboard.press("End")
    tab.wait_for_selector("h2:has-text('hacked')")
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "reader"
    tab.keyboard.press("/")
    tab.keyboard.type("lavin")
    assert page.rows() == ["Where was Lavin born?"]
    page.check()


def test_a_link_leads_to_its_episode(opened, evaluation):
    page = opened(evaluation, link="#q2")
    page.tab.wait_for_selector("h2:has-text('Lavin')")
    assert page.tab.locator(".row[aria-selected=true] .question").inner_text() == "Where was Lavin born?"
    page.tab.click(".row >> nth=0")
    page.tab.wait_for_selector("h2:has-text('Somon')")
    assert page.tab.url.endswith("#q1")
    page.check()


def test_samples_of_a_question_are_told_apart(opened, tmp_path):
    episodes = [answered("q1", sample=0), answered("q1", "Rom", sample=1)]
    write_report(write_run(tmp_path / "run", episodes, samples=2), tmp_path / "page.html", 0)
    page = opened(tmp_path / "page.html", link="#q1%2F2")
    page.tab.wait_for_selector("#reader .eyebrow:has-text('q1 sample 2')")
    assert page.tab.locator(".row .answer").all_inner_texts() == ["Walem sample 1", "Rom gold Walem sample 2"]
    assert "Exact match, mean@2" in page.tab.inner_text(".hero")
    assert "pass@2" in page.tab.inner_text(".measures")
    page.check()


def test_a_run_in_which_nothing_was_scored(opened, tmp_path):
    write_report(write_run(tmp_path / "run", [failed("q1")]), tmp_path / "page.html", 0)
    page = opened(tmp_path / "page.html")
    assert page.tab.locator(".hero").count() == 0
    assert "HTTP 503 after 8 tries" in page.tab.inner_text(".verdict")
    page.check()


def test_on_a_phone_the_reader_lies_over_the_list(opened, evaluation):
    page = opened(
        evaluation, viewport={"width": 390, "height": 800}, is_mobile=True, has_touch=True, color_scheme="dark"
    )
    tab = page.tab
    assert not tab.is_visible("#reader")
    tab.tap(".row >> nth=1")
    tab.wait_for_selector("#reader h2:has-text('Lavin')")
    assert tab.locator("#reader").bounding_box()["width"] == 390
    tab.tap(".back")
    tab.wait_for_selector("#reader", state="hidden")
    tab.tap(".row >> nth=0")
    tab.wait_for_selector("#reader h2:has-text('Somon')")
    tab.go_back()
    tab.wait_for_selector("#reader", state="hidden")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    page.check()


def test_five_thousand_episodes_are_not_five_thousand_nodes(opened, tmp_path):
    run = write_run(tmp_path / "run", (answered(f"q{n}", question=f"Question {n}?") for n in range(5000)))
    write_report(run, tmp_path / "page.html", 0)
    page = opened(tmp_path / "page.html")
    tab = page.tab
    assert tab.locator(".row").count() < 40
    tab.focus("#list")
    tab.keyboard.press("End")
    tab.wait_for_selector("h2:has-text('Question 4999?')")
    assert page.rows()[-1] == "Question 4999?"
    assert tab.locator(".row").count() < 40
    page.check()


def test_trees_are_drawn_and_read_turn_by_turn(opened, tmp_path):
    write_report(write_training(tmp_path / "run"), tmp_path / "page.html", 100)
    page = opened(tmp_path / "page.html")
    tab = page.tab
    assert "from 0.0 %: +50.0 points" in tab.inner_text(".hero")
    assert tab.locator(".tree .node text").all_text_contents() == ["Somon born", "Walem", "Rom", "no idea </script>"]
    place = {name: tab.locator(f'.node:has-text("{name}")').bounding_box() for name in ("Somon born", "Walem", "Rom")}
    assert place["Somon born"]["x"] < place["Walem"]["x"] == place["Rom"]["x"]
    assert place["Walem"]["y"] < place["Somon born"]["y"] < place["Rom"]["y"]
    tab.click('.node:has-text("Rom")')
    assert "prompt › turn 1 › turn 3" in tab.inner_text(".path")
    values = tab.inner_text(".values")
    assert all(part in values for part in ("−0.500", "2.000", "answer"))
    assert tab.locator(".link.on-path").count() == 2
    assert "above 0 it becomes likelier" in str(tab.get_attribute('.values dt:text-is("advantage")', "title"))
    tab.click('.path button:has-text("turn 1")')
    assert "-0.250 to +0.500 by leaf".replace("-", "−") in tab.inner_text(".values")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate("document.activeElement.dataset.at") == "3"
    page.check()


def test_nodes_are_coloured_by_what_is_chosen(opened, tmp_path):
    write_report(write_training(tmp_path / "run"), tmp_path / "page.html", 100)
    tab = (page := opened(tmp_path / "page.html")).tab

    def fills() -> list[str]:
        return tab.evaluate("[...document.querySelectorAll('.node rect')].map((box) => box.style.fill)")

    def share(fill: str) -> tuple[str, str]:
        return fill.split("var(")[1].split(")")[0], fill.split("%")[0].split(" ")[-1]

    assert [share(fill) for fill in fills()] == [
        ("--plus", "8"),
        ("--plus", "100"),
        ("--minus", "33"),
        ("--minus", "67"),
    ]
    tab.click('[data-filter="entropy"]')
    assert [share(fill) for fill in fills()] == [
        ("--level", "25"),
        ("--level", "13"),
        ("--level", "100"),
        ("--level", "50"),
    ]
    assert "2.00 unsure" in tab.inner_text(".legend")
    tab.click('[data-filter="reward"]')
    assert [share(fill) for fill in fills()] == [
        ("--plus", "50"),
        ("--plus", "100"),
        ("--plus", "0"),
        ("--minus", "100"),
    ]
    page.check()


def test_a_chart_says_what_is_under_the_pointer(opened, tmp_path):
    write_report(write_training(tmp_path / "run", steps=3), tmp_path / "page.html", 100)
    page = opened(tmp_path / "page.html")
    chart = page.tab.locator(".chart", has_text="Reward")
    assert chart.locator(".values-at").inner_text().split("\n")[0] == "step 3"
    assert chart.locator("figcaption").get_attribute("title") == "Reward of an episode"
    box = chart.locator("svg").bounding_box()
    page.tab.mouse.move(box["x"] + 0.13 * box["width"], box["y"] + box["height"] / 2)
    assert "step 1" in chart.locator(".values-at").inner_text() and "0.10" in chart.locator(".values-at").inner_text()
    chart.locator("svg").press("ArrowRight")
    assert "step 2" in chart.locator(".values-at").inner_text() and "0.20" in chart.locator(".values-at").inner_text()
    assert chart.locator("svg text").all_text_contents()[-1] == "step"  # the axis has its name
    page.check()
