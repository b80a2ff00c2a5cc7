"""Navigation and links of the site."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pages
import pytest

from tests.docs.conftest import DOCS


def test_a_table_of_contents_has_the_pages_that_exist_in_the_order_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    for name in ("b", "a", "results/y", "results/x"):
        (tmp_path / f"{name}.md").touch()
    made = pages.contents(tmp_path, {"One": ["b", "a"], "Two": ["results/*"]})
    first, second = made.split("\n\n```{toctree}")
    assert first.splitlines()[1:] == [":caption: One", ":maxdepth: 1", "", "b", "a", "```"]
    assert second.splitlines()[-3:] == ["results/x", "results/y", "```"]
    with pytest.raises(FileNotFoundError, match="lists missing"):
        pages.contents(tmp_path, {"One": ["missing"]})


def test_every_page_is_listed() -> None:
    navigation = runpy.run_path(str(DOCS / "conf.py"))["navigation"]
    listed = {file for section in navigation.values() for page in section for file in DOCS.glob(f"{page}.md")}
    assert set(DOCS.rglob("*.md")) - listed == {DOCS / "index.md"}
    # Sphinx writes pages of these names itself, over ours.
    assert not {page.stem for page in DOCS.glob("*.md")} & {"search", "genindex", "modindex"}


def test_links_to_folders_and_pages_outside_are_names_and_links_to_files_stay(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "sdk.py").touch()
    text = "[these](../examples), [this](../sdk.py), [that](../README.md#tests), [here](other.md#there)"
    made = pages.without_outside_links(text, tmp_path / "docs", tmp_path / "docs")
    assert made == "these, [this](../sdk.py), that, [here](other.md#there)"


def test_every_relative_link_of_a_page_leads_somewhere() -> None:
    repository = DOCS.parent
    for page in [*DOCS.rglob("*.md"), *repository.glob("*.md")]:
        for link in re.findall(r"(?:\]\(|src(?:set)?=\")(?![a-z]+:|#)([^)#\s\"]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.relative_to(repository)} links to {link}"


def test_the_glossary_has_a_row_for_every_metric() -> None:
    assert (
        "| `update` | Time of credit and update: of the step, what was not waiting for trees | seconds |"
        in pages.glossary_tables()
    )
