"""Write the table of rooms, their lines and their imports into docs/architecture.md (``make rooms``).

Imports are those of the import graph that import-linter checks, counted between modules.
"""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path

import grimp

PACKAGES = ("search_backend", "at2po_env", "envs", "at2po_agent")
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
START, END = "<!-- rooms -->", "<!-- end of rooms -->"


def rooms(graph: grimp.ImportGraph) -> list[str]:
    """The packages and the rooms inside the agent, top to bottom."""
    inside = sorted(child for child in graph.find_children("at2po_agent") if graph.find_children(child))
    return ["at2po_agent", *inside, "envs", "at2po_env", "search_backend"]


def room_of(module: str, names: list[str]) -> str:
    """The innermost room that a module is in."""
    return max((name for name in names if f"{module}.".startswith(f"{name}.")), key=len)


def table() -> str:
    """One row for each room: files, lines, and how many imports go to which other room."""
    graph = grimp.build_graph(*PACKAGES)
    names = rooms(graph)
    files, lines, uses = Counter[str](), Counter[str](), {name: Counter[str]() for name in names}
    for module in sorted(graph.modules):
        room = room_of(module, names)
        files[room] += 1
        source = Path(str(importlib.util.find_spec(module).origin))  # type: ignore[union-attr]
        lines[room] += len(source.read_text(encoding="utf-8").splitlines())
        for imported in graph.find_modules_directly_imported_by(module):
            if (other := room_of(imported, names)) != room:
                uses[room][other] += 1
    rows = ["| room | files | lines | imports |", "|---|---|---|---|"]
    for name in names:
        others = ", ".join(
            f"{other} {count}" for other, count in sorted(uses[name].items(), key=lambda one: (-one[1], one[0]))
        )
        rows.append(f"| `{name}` | {files[name]} | {lines[name]:,} | {others or 'none of ours'} |")
    return "\n".join(rows)


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(START)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{START}\n{table()}\n{END}{after}", encoding="utf-8")
