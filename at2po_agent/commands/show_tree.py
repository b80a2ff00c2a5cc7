"""``at2po-agent show-tree``: print a tree that a run has stored, or draw it."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from at2po_agent.glossary import TREE


def add_parser(commands: Any) -> None:
    """Add ``show-tree`` to the subparsers of the command."""
    parser = commands.add_parser("show-tree", help="print a stored tree: turns, entropy, value, advantage, reward")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    parser.add_argument("--step", type=int, metavar="N", help="step of the tree; default: the last one stored")
    parser.add_argument("--index", type=int, metavar="I", help="which tree of the step, from 0; default: the first")
    parser.add_argument("--question", metavar="ID", help="the tree of this question")
    parser.add_argument("--full", action="store_true", help="print long texts in full")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw the tree to FILE")
    parser.add_argument("--dark", action="store_true", help="draw for a dark background")
    parser.set_defaults(command=_show_tree)


def _show_tree(arguments: argparse.Namespace) -> int:
    from at2po_agent.atomic_files import write_text
    from at2po_agent.judge.view.tree_svg import tree_svg
    from at2po_agent.terminal import SafeConsole, say
    from at2po_agent.training.stored_trees import find_tree, render

    step, index, record = find_tree(arguments.run, arguments.step, arguments.index, arguments.question)
    which = f"step {step}, tree {index}, question {record['tree']['question_id']}"
    if arguments.svg:
        write_text(arguments.svg, tree_svg(record, dark=arguments.dark))
        say(f"{which} → {arguments.svg}")
        return 0
    console = SafeConsole()
    console.print(which)
    console.print(render(record, width=0 if arguments.full else 300))
    console.print()
    for name in ("H", "V", "A") if record.get("values") else ("H", "A"):
        text = textwrap.fill(str(TREE[name]), 120, initial_indent=f"{name}  ", subsequent_indent="   ")
        console.print(text, markup=False)
    return 0
