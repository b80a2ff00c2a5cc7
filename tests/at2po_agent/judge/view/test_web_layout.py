"""Every kind of page on a desk and on a phone: no value is shown as null, undefined or NaN, and nothing is cut off."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from at2po_agent.environments import EnvConfig
from at2po_agent.judge.episodes.records import EpisodeRecord, TurnRecord
from at2po_agent.judge.view.run_page import write_report
from at2po_agent.policy.loading import PolicyConfig
from at2po_agent.training.config import TrainConfig
from at2po_agent.training.run_dir import RunDirectory
from tests.at2po_agent.judge.results.test_tree_report import RESULT
from tests.at2po_agent.judge.view.test_page_trees import record, write_training
from tests.at2po_agent.judge.view.test_web import browser, opened  # noqa: F401 (fixtures)
from tests.helpers.evaluations import answer_turn, answered, failed, malformed, search_turn, write_run
from tests.helpers.stored_trees import grown

pytestmark = [
    pytest.mark.service,
    pytest.mark.fault("item 18: pages show no null and are not cut off, at 1280 and 390"),
]

LONG = "Whatwasthenameoftheauthor" * 12
SHAPE = {"chains": 2, "per_round": 2, "rounds": 1, "alpha": 0.05}


def evaluation(path: Path) -> Path:
    no_room = replace(search_turn(), hits=(*search_turn().hits, {"id": "9", "title": "Lavin", "score": None}))
    episodes = [
        answered("q1"),
        answered("q2", LONG, question=LONG, turns=(no_room, answer_turn(LONG))),
        malformed("q3"),
        failed("q4"),
        answered("q5", "Rom", recall=None, gold_titles=()),
    ]
    return write_run(path, episodes, model={"name": f"org/{LONG}"}, dataset={"split": "demo"})


def samples(path: Path) -> Path:
    episodes = [answered(f"q{n}", "Rom" if n else "Walem", sample=sample) for n in range(3) for sample in range(4)]
    return write_run(path, episodes, samples=4, price={"prompt": 0.15, "completion": 1e-7})


def local(path: Path) -> Path:
    run = write_run(path, [answered("q1", seconds=0.25), answered("q2", seconds=0.25)])
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["model"] = {"name": "policy", "files": "e" * 64, "dtype": "float32"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def of_tools(path: Path) -> Path:
    call = TurnRecord("<add>3</add>", {"kind": "call", "content": "add(3)", "why": None}, "4", completion_tokens=3)
    metrics = [{"name": name, "share": name == "success", "title": "", "words": ""} for name in ("success", "reward")]
    episodes = [
        EpisodeRecord("to-4", 0, "4", (), "done", turns=(call,), metrics={"success": 1.0, "reward": 1.0}),
        EpisodeRecord("to-9", 0, LONG, (), "turn_limit", turns=(call,), metrics={"success": 0.0, "reward": 0.25}),
        EpisodeRecord("to-8", 0, "8", ("8",), "answer", "7", turns=(call,), metrics={"success": 0.0, "reward": 0.0}),
        failed("to-7"),
    ]
    return write_run(path, episodes, metrics=metrics, task_word="task", env="Numbers-v0")


def nothing_scored(path: Path) -> Path:
    return write_run(path, [failed("q1")])


def empty(path: Path) -> Path:
    return write_run(path, [])


def tree_evaluation(path: Path) -> Path:
    run = write_run(path, [answered("q1", sample=n) for n in range(5)], tree=SHAPE)
    (run / "tree.json").write_text(json.dumps(RESULT.to_json()))
    return run


def tree_evaluation_without_a_tree(path: Path) -> Path:
    return write_run(path, [failed("q1")], tree=SHAPE)


def training(path: Path) -> Path:
    return write_training(path, steps=5, trees=3)


def training_that_began(path: Path) -> Path:
    """One step, no evaluation, no session, and credit without values or advantages for pruned turns."""
    config = TrainConfig(run_dir=str(path), env=EnvConfig(id="AT2PO-MicroWiki-v0"), policy=PolicyConfig(path="p"))
    with RunDirectory.create(config) as run:
        run.log(1, {"reward": None, "entropy": float("nan")})
        run.save_trees(1, [record(grown(), values=None, question=LONG, answers=[])])
        run.add_session({"python": "3"})
    return path


KINDS = [
    evaluation,
    samples,
    local,
    of_tools,
    nothing_scored,
    empty,
    tree_evaluation,
    tree_evaluation_without_a_tree,
    training,
    training_that_began,
]

# What is wider than its box, or reaches out of the window, and can be neither scrolled to nor is shortened on purpose.
CUT_OFF = """() => {
  const found = [], width = document.documentElement.clientWidth;
  const shown = (node) => node.getClientRects().length && getComputedStyle(node).visibility !== "hidden";
  const reachable = (node) => {
    for (let at = node; at && at !== document.body; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (["auto", "scroll"].includes(style.overflowX) || style.textOverflow === "ellipsis") return true;
    }
    return false;
  };
  const whole = document.documentElement.scrollWidth;
  if (whole > width) found.push(`the page is ${whole} wide`);
  for (const node of document.body.querySelectorAll("*:not(script):not(.skip)")) {
    if (!shown(node) || reachable(node)) continue;
    const box = node.getBoundingClientRect(), name = `${node.tagName}.${node.getAttribute("class") ?? ""}`;
    if (box.right > width + 1 || box.left < -1) found.push(`${name} from ${box.left} to ${box.right}`);
    const hides = getComputedStyle(node).overflowX === "hidden";
    if (hides && node.scrollWidth > node.clientWidth + 1) found.push(`${name} hides`);
  }
  return found;
}"""
EVERYTHING_OPEN = "document.querySelectorAll('details').forEach((fold) => { fold.open = true; })"
# Also names for screen readers and titles are read by somebody.
TEXT = """() => document.body.innerText + [...document.querySelectorAll("[aria-label], [title]")]
  .map((node) => `\\n${node.getAttribute("aria-label") ?? ""} ${node.getAttribute("title") ?? ""}`).join("")"""
NO_VALUES = ("null", "undefined", "NaN", "Infinity", "[object")


def check(tab: Any) -> None:
    tab.evaluate(EVERYTHING_OPEN)
    text = tab.evaluate(TEXT)
    assert [word for word in NO_VALUES if word in text] == []
    assert tab.evaluate(CUT_OFF) == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_value_is_missing_and_nothing_is_cut_off(
    opened: Any,  # noqa: F811
    tmp_path: Path,
    kind: Callable[[Path], Path],
    width: int,
) -> None:
    write_report(kind(tmp_path / "run"), tmp_path / "page.html", 100)
    phone = {"is_mobile": True, "has_touch": True} if width < 600 else {}
    page = opened(tmp_path / "page.html", viewport={"width": width, "height": 800}, **phone)
    tab = page.tab
    check(tab)
    tab.evaluate("document.getElementById('list').scrollIntoView()")
    tab.wait_for_selector(".row" if kind is not empty else ".empty")
    for at in range(tab.locator(".row").count()):
        tab.evaluate(f"document.querySelector('[data-at=\"{at}\"].row').click()")
        tab.wait_for_selector("#reader h2")
        check(tab)
        for node in range(tab.locator(".node").count()):
            tab.locator(".node").nth(node).evaluate(
                "(node) => node.dispatchEvent(new MouseEvent('click', {bubbles: true}))"
            )
            check(tab)
        if width < 600:
            tab.evaluate("document.querySelector('.back').click()")
            tab.wait_for_selector("#reader", state="hidden")
    page.check()
