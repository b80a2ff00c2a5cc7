import base64
import gzip
import json
import re

from at2po_agent.commands.main import main
from tests.at2po_agent.judge.view.test_page_trees import write_training
from tests.helpers.evaluations import answered, failed, write_run


def head(page):
    block = re.search(r'id="chunk-head">([^<]*)<', page.read_text(encoding="utf-8"))
    assert block
    return json.loads(gzip.decompress(base64.b64decode(block[1])))


def test_an_evaluation_and_what_it_was_run_with(tmp_path, capsys):
    run = write_run(tmp_path / "run", [answered("q1"), failed("q2")], dataset={"split": "demo"})
    assert main(["view", str(run), "--html", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out == f"2 episodes → {tmp_path / 'page.html'}\n"
    shown = head(tmp_path / "page.html")
    assert (shown["title"], shown["subtitle"], shown["demo"]) == (
        "HotpotQA demo",
        "tiny, 1 question, temperature 0",
        True,
    )
    assert ["limits · max searches", "6"] in shown["facts"]
    assert shown["summary"]["errors"] == 1


def test_a_page_holds_the_episodes_that_are_asked_for_in_the_order_of_the_questions(tmp_path, capsys):
    records = [answered("q3", "no"), answered("q2"), answered("q1", "no")]  # as they ended
    run = write_run(tmp_path / "run", records, questions=["q1", "q2", "q3"])
    assert main(["view", str(run), "--html", str(tmp_path / "page.html"), "--filter", "wrong"]) == 0
    assert capsys.readouterr().out == f"2 episodes → {tmp_path / 'page.html'}\n"
    shown = head(tmp_path / "page.html")
    assert [episode["id"] for episode in shown["episodes"]] == ["q1", "q3"]
    assert shown["summary"]["episodes"] == 3


def test_a_training_run(tmp_path, capsys):
    run = write_training(tmp_path / "run")
    assert main(["view", str(run), "--html", str(tmp_path / "page.html"), "--trees", "2"]) == 0
    assert capsys.readouterr().out == f"2 trees of 1 steps → {tmp_path / 'page.html'}\n"
    shown = head(tmp_path / "page.html")
    assert (shown["title"], shown["kind"]) == ("AT2PO-MicroWiki-v0 · at2po", "training")
    assert {("python", "3"), ("seed", "0")} <= {tuple(fact) for fact in shown["facts"]}
    assert main(["view", str(run), "--html", str(tmp_path / "page.html"), "--filter", "wrong"]) == 2
    assert "is a training run: --filter and --question are of evaluations" in capsys.readouterr().err


def test_nothing_is_left_where_there_is_nothing_to_show(tmp_path, capsys):
    (tmp_path / "trees").mkdir()
    assert main(["view", str(tmp_path), "--html", str(tmp_path / "page.html")]) == 2
    assert "has no stored trees" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
