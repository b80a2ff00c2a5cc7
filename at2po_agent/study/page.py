"""A comparison of training runs as one HTML page, with curves to point at, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from at2po_agent import glossary
from at2po_agent.atomic_files import write_text
from at2po_agent.judge.results.tables import markdown, markdown_text
from at2po_agent.judge.view.page import Heading, write_page
from at2po_agent.study.comparison import TrainingComparison
from at2po_agent.study.runs import COSTS
from at2po_agent.study.tables import notes, sheets
from at2po_agent.terminal import counted


@dataclass(frozen=True)
class Page:
    """What stands above a comparison."""

    title: str
    subtitle: str = ""
    facts: Sequence[tuple[str, str]] = ()  # name and value of how it was made


def write_html(path: Path, page: Page, found: TrainingComparison) -> None:
    """Write everything into one file that needs no network.

    Raises:
        DiskError: it cannot be written.
    """
    heading = Heading(page.title, page.subtitle or _subtitle(found), _is_demo(found), page.facts)
    head = {
        "kind": "comparison",
        **heading.to_json(),
        "sheets": [asdict(sheet) for sheet in sheets(found)],
        "charts": [_chart(found, axis) for axis in found.axes()],
        "notes": notes(found),
    }
    write_page(path, page.title, head, [])


def write_markdown(path: Path, page: Page, found: TrainingComparison) -> None:
    """Write the tables and notes as Markdown.

    Raises:
        DiskError: it cannot be written.
    """
    lines = [f"# {markdown_text(page.title)}", "", f"{markdown_text(page.subtitle or _subtitle(found))}.", ""]
    lines += [f"- {markdown_text(note)}" for note in notes(found)]
    lines += ["", *(markdown(sheet) for sheet in sheets(found))]
    write_text(path, "\n".join(lines).rstrip("\n") + "\n")


def _subtitle(found: TrainingComparison) -> str:
    variants, runs = counted(len(found.variants), "variant"), counted(len(found.runs), "run")
    return f"{variants}, {runs}, compared with {found.variants[0].name}"


def _is_demo(found: TrainingComparison) -> bool:
    return found.measured.source.split()[-1:] == ["demo"]


def _chart(found: TrainingComparison, axis: str) -> dict[str, Any]:
    """A chart as ``chart.js`` draws it: points are [x, mean, low, high]."""
    series = [
        {"name": curve.name, "points": [[point.x, point.mean, point.low, point.high] for point in curve.points]}
        for curve in found.curves(axis)
    ]
    score = glossary.EPISODES.get(found.measured.metric)
    meaning = f"{score}. Against: {glossary.COSTS[axis]}" if score else str(glossary.COSTS[axis])
    drawn = {"label": found.measured.heading, "x": COSTS[axis], "share": found.measured.share}
    return {**drawn, "series": series, "meaning": meaning}
