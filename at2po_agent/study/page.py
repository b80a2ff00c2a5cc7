"""A comparison as one HTML page, with curves to point at, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from at2po_agent import glossary
from at2po_agent.atomic_files import write_text
from at2po_agent.judge.results.tables import Sheet, markdown, markdown_text
from at2po_agent.judge.view.page import Heading, write_page
from at2po_agent.study.comparison import TrainingComparison
from at2po_agent.study.runs import COSTS
from at2po_agent.study.tables import notes, sheets
from at2po_agent.terminal import counted


@dataclass(frozen=True)
class Page:
    """The heading of a comparison page."""

    title: str
    subtitle: str = ""
    facts: Sequence[tuple[str, str]] = ()  # name and value of how it was made


@dataclass(frozen=True)
class Report:
    """Everything that a page shows, in both of its forms."""

    heading: Heading
    sheets: Sequence[Sheet]
    charts: Sequence[Mapping[str, Any]]  # as ``chart.js`` draws them; of the HTML page only
    notes: Sequence[str] = ()

    def write_html(self, path: Path, kind: str = "comparison") -> None:
        """Write everything into one file that needs no network; ``kind`` is what its header calls it.

        Raises:
            DiskError: it cannot be written.
        """
        head = {
            "kind": kind,
            **self.heading.to_json(),
            "sheets": [asdict(sheet) for sheet in self.sheets],
            "charts": self.charts,
            "notes": self.notes,
        }
        write_page(path, self.heading.title, head, [])

    def write_markdown(self, path: Path, commands: Sequence[str] = ()) -> None:
        """Write the tables and notes as Markdown, below the commands that made them.

        Raises:
            DiskError: it cannot be written.
        """
        lines = [f"# {markdown_text(self.heading.title)}", ""]
        if commands:
            lines += ["```bash", *commands, "```", ""]
        lines += [f"{markdown_text(self.heading.subtitle)}.", "", *(f"- {markdown_text(note)}" for note in self.notes)]
        lines += ["", *map(markdown, self.sheets)]
        write_text(path, "\n".join(lines).rstrip("\n") + "\n")


def report(page: Page, found: TrainingComparison) -> Report:
    """A comparison of training runs as a page."""
    heading = Heading(page.title, page.subtitle or _subtitle(found), _is_demo(found), page.facts)
    return Report(heading, sheets(found), [_chart(found, axis) for axis in found.axes()], notes(found))


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
