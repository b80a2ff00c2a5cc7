"""One self-contained HTML file: everything that it shows is inside, and nothing that it shows can act.

What was read from a run (questions, answers, passages, what models wrote) is in the file as base64 of gzip of JSON, so
no character of it can be markup. The page's own script builds nodes and text from it. A content security policy allows
that script and the style sheet by their digests, and nothing else: no network, no frame, no form, no inline handler.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from at2po_agent import glossary
from at2po_agent.atomic_files import write_text

SCRIPTS = (  # in the order in which they need each other
    *("core.js", "list.js", "curve.js", "chart.js"),
    *("episodes.js", "trees.js", "comparison.js", "start.js"),
)


@dataclass(frozen=True)
class Heading:
    """The head of a page, whichever kind of run it is of."""

    title: str  # environment and split
    subtitle: str  # the model and how it was run
    demo: bool  # the questions are of an invented world, so that no number is one of the benchmark
    facts: Sequence[tuple[str, str]]  # name and value of everything that the run was made with

    def to_json(self) -> dict[str, Any]:
        """JSON values for the page's script."""
        return {"title": self.title, "subtitle": self.subtitle, "demo": self.demo, "facts": list(self.facts)}


def write_page(path: Path, title: str, head: Mapping[str, Any], chunks: Iterable[Any]) -> None:
    """Write the page of a run, whole or not at all.

    Args:
        path: the file.
        title: of the browser's window.
        head: JSON values: what the page shows at once, and what its list and filters need.
        chunks: JSON values that are unpacked when something in them is opened; ``chunk-0`` is the first.

    Raises:
        DiskError: it cannot be written.
    """
    web = files("at2po_agent.judge.view") / "web"
    script = "".join((web / name).read_text(encoding="utf-8") for name in SCRIPTS)
    style = (web / "page.css").read_text(encoding="utf-8")
    meanings = {name: str(entry) for name, entry in {**glossary.EPISODES, **glossary.TREE}.items()}
    blocks = [
        _block("head", {**head, "glossary": meanings}),
        *(_block(str(number), chunk) for number, chunk in enumerate(chunks)),
    ]
    parts = {
        "TITLE": html.escape(title),
        "SCRIPT_DIGEST": _digest(script),
        "STYLE_DIGEST": _digest(style),
        "SCRIPT": script,
        "STYLE": style,
        "BLOCKS": "\n".join(blocks),
    }
    page = (web / "page.html").read_text(encoding="utf-8")
    write_text(path, re.sub("%([A-Z_]+)%", lambda name: parts[name[1]], page))


def _block(name: str, value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    packed = gzip.compress(text, compresslevel=6, mtime=0)
    return f'<script type="text/plain" id="chunk-{name}">{base64.b64encode(packed).decode()}</script>'


def _digest(text: str) -> str:
    """A source of a content security policy (https://www.w3.org/TR/CSP3/#grammardef-hash-source)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
