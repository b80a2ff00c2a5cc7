"""The table of a comparison, in every format, with nothing in a name that could break it."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from at2po_agent.commands.main import main
from at2po_agent.intervals import Interval
from at2po_agent.judge.results.comparison import Column, Comparison, compare
from at2po_agent.judge.results.metrics import Summary
from at2po_agent.judge.results.stored import Finished
from at2po_agent.judge.results.tables import notes, sheets, summary_table
from tests.helpers.evaluations import answered, failed, write_run
from tests.helpers.places import ROOT

MULTI = ("HotpotQA", "2WikiMultiHopQA", "MuSiQue", "Bamboogle")
SINGLE = ("NQ", "TriviaQA", "PopQA")
OFFICIAL = dict(zip((*MULTI, *SINGLE), (7405, 12576, 2417, 125, 3610, 11313, 14267), strict=True))


def column(benchmark, *values, split="test", group=None, errors=0, missing=0):
    group = ("multi-hop" if benchmark in MULTI else "single-hop") if group is None else group
    return Column(benchmark, split, group, values, errors, missing, OFFICIAL.get(benchmark, 0))


def test_benchmarks_are_in_the_papers_order_with_two_averages_for_each_group():
    columns = [column(name, [1.0, 0.0]) for name in (*MULTI, *SINGLE)]
    (scores,) = sheets(Comparison("em", ("tiny",), tuple(columns), ()))
    averages = ("Avg, benchmarks", "Avg, questions")
    names = ("Hotpot", "2Wiki", "MuSiQue", "Bamb", *averages, "NQ", "TriviaQA", "PopQA", *averages)
    assert scores.header == ("Model", *names)
    assert scores.rows == (("tiny", *["50.0"] * 11),)


@pytest.mark.fault("item 14: averages over benchmarks and over questions, both named")
def test_averages_over_questions_use_official_sizes_and_both_say_when_some_are_missing():
    columns = (column("HotpotQA", [1.0, 1.0, 1.0, 0.0]), column("MuSiQue", [0.0]), column("NQ", [1.0]))
    comparison = Comparison("em", ("tiny",), columns, ())
    (scores,) = sheets(comparison)
    assert scores.header == ("Model", "Hotpot", "MuSiQue", "Avg of 2, benchmarks", "Avg of 2, questions", "NQ")
    # 75 % of HotpotQA's 7,405 questions and none of MuSiQue's 2,417, although 4 and 1 were asked here
    assert scores.rows == (("tiny", "75.0", "0.0", "37.5", "56.5", "100.0"),)
    assert "(HotpotQA 7,405, MuSiQue 2,417), however many were asked here" in notes(comparison)[-1]


def papers_rows():
    """[model, method, seven benchmarks and two averages] of the main table in docs/paper_results.md."""
    lines = (ROOT / "docs" / "paper_results.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| Qwen")]
    return [(row[0], row[1], *map(float, row[2:])) for row in cells]


@pytest.mark.fault("item 14: averages over benchmarks and over questions, both named")
def test_the_average_over_questions_is_the_papers():
    odd = {("Qwen3-4B", "AT²PO", "single-hop"), ("Qwen3-8B", "DAPO", "multi-hop")}
    rows = papers_rows()
    assert len(rows) == 19
    for model, method, *numbers in rows:
        scores = [*numbers[:4], *numbers[5:8]]
        columns = [column(name, [score / 100]) for name, score in zip((*MULTI, *SINGLE), scores, strict=True)]
        (sheet,) = sheets(Comparison("em", ("x",), tuple(columns), ()))
        for group, printed in (("multi-hop", numbers[4]), ("single-hop", numbers[8])):
            first = sheet.header.index("Avg, questions")
            at = first if group == "multi-hop" else sheet.header.index("Avg, questions", first + 1)
            # The table has one decimal and the paper two.
            assert (abs(float(sheet.rows[0][at]) - printed) <= 0.05 + 0.03) == ((model, method, group) not in odd)


@pytest.mark.fault("item 14: averages over benchmarks and over questions, both named")
def test_a_benchmark_knows_the_size_of_its_official_set(tmp_path):
    runs = [write_run(tmp_path / name, [answered("q1")], env=f"AT2PO-{name}-v0") for name in OFFICIAL]
    own = write_run(tmp_path / "own", [answered("q1")], env="own:Task-v0")
    columns = compare([Finished.read(run) for run in [*runs, own]]).columns
    assert {column.benchmark: column.official for column in columns} == {**OFFICIAL, "own:Task-v0": 0}


def test_differences_are_paired():
    # every question of the second model is 0.5 better: the interval has no width
    columns = (column("HotpotQA", [0.0, 0.5], [0.5, 1.0], None), column("NQ", [0.0], [1.0], [1.0]))
    scores, differences = sheets(Comparison("f1", ("a", "b", "c"), columns, ()))
    assert differences.rows == (
        ("b", "+50.0 [-48.5, +98.5]", "+100.0 [-73.4, +100.0]"),
        ("c", "–", "+100.0 [-73.4, +100.0]"),
    )
    assert scores.rows[2] == ("c", "–", "100.0")
    assert scores.best == ("", "75.0", "100.0")


def test_amounts_are_no_percentages_and_none_is_best():
    scores, differences = sheets(Comparison("searches", ("a", "b"), (column("NQ", [2.0], [3.5]),), ()))
    assert (scores.title, scores.rows, scores.best) == ("searches", (("a", "2"), ("b", "3.5")), ("", ""))
    assert differences.rows == (("b", "+1.5 [+1.5, +1.5]"),)


@pytest.mark.fault("item 15: compare --metric searches prints enough digits")
@pytest.mark.parametrize(
    ("before", "after", "cells", "difference"),
    [
        ([1.846], [1.891], ("1.846", "1.891"), "+0.045 [+0.045, +0.045]"),
        ([0.0121], [0.0118], ("0.0121", "0.0118"), "-0.0003 [-0.0003, -0.0003]"),
        ([12345.6], [12345.6], ("12,346", "12,346"), "+0 [+0, +0]"),
    ],
)
def test_amounts_have_four_significant_digits(before, after, cells, difference):
    scores, differences = sheets(Comparison("searches", ("a", "b"), (column("NQ", before, after),), ()))
    assert tuple(row[1] for row in scores.rows) == cells
    assert differences.rows == (("b", difference),)


def test_notes_say_what_was_left_out():
    comparison = Comparison("em", ("a",), (column("NQ", [1.0], split="demo", errors=2, missing=1),), ("x: y differs",))
    assert notes(comparison) == (
        "NOT LIKE FOR LIKE: x: y differs",
        "NQ demo: 1 questions that every run scored; left out: 2 ended by infrastructure, 1 not in every run",
        "NQ demo: questions about an invented world, no result on the benchmark",
    )
    assert sheets(comparison)[0].header == ("Model", "NQ (demo)")


@pytest.fixture
def runs(tmp_path):
    first = write_run(tmp_path / "a", [answered("q1"), answered("q2", "Rom"), failed("q3")], model={"name": "a_1|%"})
    changes = {"model": {"name": "b"}, "limits": {"k": 5}}
    return [str(first), str(write_run(tmp_path / "b", [answered("q1"), answered("q2")], **changes))]


def test_markdown(runs, capsys):
    assert main(["compare", *runs, "--format", "markdown", "--anyway"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "**Exact match, %**",
        "",
        "| Model | Hotpot |",
        "| :-- | --: |",
        "| a\\_1\\|% | 50.0 |",
        "| b | **100.0** |",
        "",
        "**Difference from a\\_1\\|%, points, with its 95 % paired interval**",
        "",
        "| Model | Hotpot |",
        "| :-- | --: |",
        "| b | +50.0 [-56.3, +100.0] |",
        "",
        "- NOT LIKE FOR LIKE: HotpotQA: b differs from a in limits.k: 3 → 5",
        "- HotpotQA dev: 2 questions that every run scored; left out: 1 ended by infrastructure",
    ]


def test_latex(runs, capsys):
    assert main(["compare", *runs, "--format", "latex", "--anyway"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert r"a\_1|\% & 50.0 \\" in lines
    assert r"b & \textbf{100.0} \\" in lines
    assert r"\begin{tabular}{lr}" in lines
    assert lines[-2].startswith("% NOT LIKE FOR LIKE")


def test_a_terminal(runs, capsys):
    assert main(["compare", *runs, "--anyway"]) == 0
    out = capsys.readouterr().out
    assert "│ b     │ +50.0 [-56.3, +100.0] │" in out
    assert "NOT LIKE FOR LIKE: HotpotQA: b differs from a" in out


def test_refused_without_anyway(runs, capsys):
    assert main(["compare", *runs]) == 2
    assert "limits.k: 3 → 5. --anyway compares them and notes it" in capsys.readouterr().err


SUMMARY = Summary(
    questions=1,
    episodes=4,
    errors=1,
    means={"em": Interval(0.5, 0.25, 0.75, 1), "prompt_tokens": Interval(12345.6, 9000, 20000, 1)},
    prompt_tokens=61_728,
    completion_tokens=400,
)


def shown(summary: Summary) -> str:
    console = Console(width=100, record=True, file=StringIO())
    console.print(summary_table(summary, "of"))
    return console.export_text()


def test_one_sample_of_a_question_has_plain_names() -> None:
    lines = shown(SUMMARY)
    assert "│ em            │  50.0% │  25.0% to 75.0% │" in lines
    assert "│ prompt tokens │ 12,346 │ 9,000 to 20,000" in lines
    assert "1 question, 4 episodes scored, 1 error" in lines
    assert "61,728 prompt and 400 completion tokens" in lines and "cost" not in lines


@pytest.mark.fault("item 15: seconds of a local evaluation have no interval")
def test_seconds_of_batches_have_no_interval() -> None:
    (line,) = (line for line in shown(replace(SUMMARY, seconds_each=0.25)).splitlines() if "seconds" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == ["seconds, of batches", "0.25", ""]


def test_several_samples_say_what_is_a_mean_and_what_a_chance() -> None:
    lines = shown(replace(SUMMARY, pass_at={2: Interval(0.6, 0.3, 0.8, 1), 4: Interval(0.75, 0.5, 1, 1)}, cost=0.0432))
    assert "em (mean@4)" in lines and "pass@2" in lines and "75.0% │" in lines
    assert "cost 0.0432" in lines
