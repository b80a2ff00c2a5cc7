"""Docstrings keep their formulas and lists when they become reStructuredText."""

from __future__ import annotations

import docstrings
from docstrings import rewritten

from at2po_agent.method import algorithms, credit, expansion, objective


def test_indented_lines_after_a_blank_one_are_literal() -> None:
    assert rewritten(["With ``r``:", "", "    z = r", "", "    V = z", "", "Then."])[:5] == [
        "With ``r``:",
        "",
        "::",
        "",
        "    z = r",
    ]
    assert rewritten(["With ``r``:", "", "    z = r", "", "    V = z"]).count("::") == 1


def test_sections_and_blocks_that_are_literal_stay() -> None:
    for lines in (["Args:", "    x: one.", "", "    y: two."], ["So::", "", "    code"]):
        assert "::" not in rewritten(lines)


def test_names_with_words_beside_them_become_a_list() -> None:
    assert rewritten(["base      the protocol", "http, tape   others"])[:2] == [
        "- ``base``: the protocol",
        "- ``http, tape``: others",
    ]


def test_a_table_stays() -> None:
    table = ["====  ====", "name  what", "====  ====", "a     b", "c     d", "====  ===="]
    assert rewritten(table) == [*table, ""]


def test_sizes_are_no_substitutions_and_numbers_no_lists() -> None:
    assert rewritten(["R = Σ_i |y_i|"]) == [r"R = Σ_i \|y_i\|", ""]
    assert rewritten(["(2) Credit"]) == [r"\(2) Credit", ""]


def test_the_formulas_of_the_method_keep_their_lines() -> None:
    for module in (expansion, credit, objective):
        lines = (module.__doc__ or "").splitlines()
        formulas = [line for line in lines if line.startswith("    ")]
        made = rewritten(lines)
        assert formulas and [line for line in made if line.startswith("    ")] == formulas
        assert "::" in made
    assert "::" not in rewritten((algorithms.__doc__ or "").splitlines())


def test_the_comments_of_fields_describe_parameters() -> None:
    assert "    eps_high: and above 1 + eps\\_high" in docstrings.parameters(objective.ATPO)
    assert docstrings.parameters(int) == []
