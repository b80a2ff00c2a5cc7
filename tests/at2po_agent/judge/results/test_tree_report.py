"""The table, the curve in characters and the drawing say the numbers that were found."""

import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from at2po_agent.judge.results.tree_report import plot, svg, table, tree_result
from tests.at2po_agent.judge.tree.test_voting import ONE, Sampled, path

OTHER = Sampled(chains=(path("x", 1.0, tokens=4),), leaves=(path("x", 1.0, tokens=4),))
RESULT = tree_result([ONE, OTHER], errors=1)


def test_every_method_has_its_mean_its_paired_difference_and_its_tokens():
    assert {name: method.em.mean for name, method in RESULT.methods.items()} == {
        "one chain": 0.5,
        "majority of chains": 0.5,
        "majority of leaves": 1.0,
        "best chain (oracle)": 1.0,
        "best leaf (oracle)": 1.0,
    }
    leaves, chains = RESULT.methods["majority of leaves"], RESULT.methods["majority of chains"]
    assert (leaves.against_chains.mean, chains.against_chains.mean) == (0.5, 0.0)
    assert (leaves.tokens, chains.tokens) == ((40 + 4) / 2, (38 + 4) / 2)
    assert (leaves.paths, chains.paths) == (2.5, 2.0)
    assert (RESULT.budget, RESULT.at[0], RESULT.at[-1]) == (22, 4, 40)
    assert RESULT.curve["majority of leaves"][0] == 0.5 and RESULT.curve["majority of leaves"][-1] == 1.0


def test_the_table_shows_them():
    console = Console(width=140, record=True)
    console.print(table(RESULT, "demo"))
    shown = console.export_text()
    row = next(line for line in shown.splitlines() if "majority of leaves" in line)
    assert "100.0%" in row and "+50.0" in row and "2.5" in row and "22" in row
    assert "2 questions, 1 errors" in " ".join(shown.split())


def test_the_plot_has_the_highest_mark_on_the_top_row_and_names_every_method():
    top, *_, legend = plot(RESULT).splitlines()
    assert top.startswith("100.0% │") and top.rstrip()[-1] == "O"
    assert all(name in legend for name in RESULT.curve)
    assert "4" in plot(RESULT).splitlines()[-3] and "40" in plot(RESULT).splitlines()[-3]


def test_the_drawing_is_well_formed_and_has_a_line_per_method_that_ends_at_its_value():
    root = ET.fromstring(svg(RESULT, "a < b & c"))
    space = "{http://www.w3.org/2000/svg}"
    lines = {line.get("stroke"): line.get("points") for line in root.iter(f"{space}polyline")}
    assert len(lines) == len(RESULT.curve)
    *_, last = lines["#d62728"].split()  # majority of leaves: 100 %, at the top
    assert float(last.split(",")[1]) == pytest.approx(36)
    assert root.find(f"{space}text").text == "a < b & c"
