from __future__ import annotations

from at2po_agent.commands import main as cli
from at2po_agent.study.black_box import read_evaluations
from at2po_agent.study.black_box_page import tree_report
from tests.at2po_agent.study.test_black_box import trees
from tests.helpers.evaluations import answered, write_run


def test_tables_notes_and_curves_of_two_evaluations(tmp_path):
    paths = [trees(tmp_path / name, model={"name": name}, limits={"k": k}) for k, name in enumerate(("one", "two"))]
    report = tree_report(read_evaluations(paths))
    differences, evaluations, one, _, unequal = report.sheets
    assert [row[:5] for row in differences.rows] == [
        (name, "tree of 4 leaves", "chains, tokens of 4 leaves", "4 / 4.0", "100 / 100") for name in ("one", "two")
    ]
    assert evaluations.rows[0][:4] == ("one", "HotpotQA dev", "2 of 4", "2 chains, 1 round of 2, α 0.05")
    # No chain of the first question is right, and two leaves agree on the answer.
    assert [row[:4] for row in one.rows] == [
        ("1 chain", "1.0", "25", "50.0"),
        ("2 chains", "2.0", "50", "50.0"),
        ("chains, tokens of 4 leaves", "4.0", "100", "50.0"),
        ("tree of 4 leaves", "4.0", "100", "100.0"),
    ]
    assert (unequal.header, unequal.rows) == (("", "one", "two"), (("limits · k", "0", "1"),))
    assert "one: 1 question without a whole tree are not counted" in report.notes
    assert "one: 1 of 4 questions are not evaluated yet" in report.notes
    chart = report.charts[0]
    assert [series["name"] for series in chart["series"]][:2] == ["majority of chains", "majority of a tree"]
    # A tree begins where all of its chains end.
    assert [point[:2] for point in chart["series"][1]["points"]] == [[50.0, 0.5], [100.0, 1.0]]


def test_the_command_writes_both_pages_and_says_how_it_was_called(tmp_path, capsys):
    run = trees(tmp_path / "run")
    greedy = write_run(tmp_path / "greedy run", [answered("q1"), answered("q2")])
    html, markdown = tmp_path / "page.html", tmp_path / "page.md"
    words = ["compare", "--trees", str(run), str(greedy), "--html", str(html), "--markdown", str(markdown)]
    assert cli.main(words) == 0
    assert "1 chain, temperature 0" in capsys.readouterr().out
    text = markdown.read_text()
    assert text.startswith(
        f"# Trees beside chains at test time\n\n```bash\nat2po-agent compare --trees {run} '{greedy}' "
    )
    assert "| tiny | tree of 4 leaves | 1 chain, temperature 0 |" in text
    assert "<title>Trees beside chains at test time</title>" in html.read_text()


def test_what_cannot_be_compared_is_one_line(tmp_path, capsys):
    run = write_run(tmp_path / "run", [answered("q1")])
    assert cli.main(["compare", "--trees", str(run)]) == 2
    assert "was made without --tree" in capsys.readouterr().err
    assert cli.main(["compare", "--trees", str(trees(tmp_path / "trees")), "--metric", "f1"]) == 2
    assert "--metric: leave it out with --trees" in capsys.readouterr().err
    assert cli.main(["compare", str(run), "--markdown", "x.md"]) == 2
    assert "--html and --markdown need training runs" in capsys.readouterr().err
