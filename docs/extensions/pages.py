"""Parts of pages that are made while the site is built, in place of markers that a code host does not show.

``<!-- navigation -->`` becomes the tables of contents, ``<!-- settings: module:Class | title -->`` the settings of a
configuration, ``<!-- components -->`` those of the algorithms' parts, ``<!-- metrics -->`` the glossary of metrics.
"""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import settings

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_MARKER = re.compile(r"^<!-- (navigation|settings|components|metrics)(?:: (.*?))? -->$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)#\s]*)(?:#[^)\s]*)?\)")
_PICTURES = (".svg", ".png", ".webp")


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill in the markers of every page that is read."""
    app.add_config_value("navigation", {}, "env")
    app.connect("source-read", _read)
    app.connect("build-finished", _copy_pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def contents(docs: Path, sections: dict[str, Sequence[str]]) -> str:
    """A table of contents for each section.

    Args:
        docs: the folder of the pages.
        sections: titles with pages in order; a page may be a pattern such as ``results/*``.

    Raises:
        FileNotFoundError: a page is listed that does not exist.
    """
    parts = []
    for title, pages in sections.items():
        names = []
        for page in pages:
            files = sorted(docs.glob(f"{page}.md"))
            if not files:
                raise FileNotFoundError(f"the navigation lists {page}, and there is no {docs / page}.md")
            names += [file.relative_to(docs).with_suffix("").as_posix() for file in files]
        parts.append("\n".join(["```{toctree}", f":caption: {title}", ":maxdepth: 1", "", *names, "```"]))
    return "\n\n".join(parts)


def without_outside_links(text: str, folder: Path, docs: Path) -> str:
    """Names in place of links to folders and pages that the site does not have; links to files stay.

    Args:
        text: of a page.
        folder: that its links are relative to.
        docs: the folder of all pages.
    """

    def replaced(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        outside = not target.is_relative_to(docs.resolve())
        return link[1] if outside and (target.is_dir() or target.suffix == ".md") else link[0]

    return _LINK.sub(replaced, text)


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    makers: dict[str, Callable[[str], str]] = {
        "navigation": lambda _: contents(Path(app.srcdir), app.config.navigation),
        "settings": _settings,
        "components": lambda _: settings.components(),
        "metrics": lambda _: glossary_tables(),
    }
    filled = _MARKER.sub(lambda marker: makers[marker[1]](marker[2] or ""), source[0])
    source[0] = without_outside_links(filled, (Path(app.srcdir) / docname).parent, Path(app.srcdir))


def _copy_pictures(app: Sphinx, error: Exception | None) -> None:
    """Put pictures where the HTML in pages names them (``<picture>``), which Sphinx does not read."""
    for file in Path(app.srcdir).rglob("*"):
        if file.suffix in _PICTURES:
            target = Path(app.outdir) / file.relative_to(app.srcdir)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _settings(argument: str) -> str:
    address, _, title = argument.partition(" | ")
    module, _, name = address.partition(":")
    return settings.tables(getattr(importlib.import_module(module), name), title)


def glossary_tables() -> str:
    """Every metric with its unit and meaning, a table for each section of the glossary."""
    from at2po_agent.glossary import SECTIONS

    parts = []
    for title, entries in SECTIONS.items():
        rows = [f"| `{name}` | {entry.words} | {entry.unit or '–'} |" for name, entry in entries.items()]
        parts += [f"## {title}", "\n".join(["| metric | meaning | unit |", "|---|---|---|", *rows])]
    return "\n\n".join(parts)
