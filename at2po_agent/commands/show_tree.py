"""``at2po-agent show-tree``: print a tree that a run has stored, or draw it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

LEGEND = """
H  entropy of a turn, in nats: the mean of −log p over its sampled tokens"""
LEGEND_VALUES = """
V  value of a turn, of normalised rewards and not of the rewards as printed: a leaf's is (reward − mean) / standard
   deviation over the tree's leaves, a turn's the weighted mean of its children's; 0 is the tree's average leaf"""
LEGEND_ADVANTAGES = """
A  advantage of a turn, with which each of its tokens is trained: above 0 it becomes likelier, below 0 rarer"""


def add_parser(commands: Any) -> None:
    """Add ``show-tree`` to the subparsers of the command."""
    parser = commands.add_parser("show-tree", help="print a stored tree: turns, entropy, value, advantage, reward")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    parser.add_argument("--step", type=int, metavar="N", help="default: the last that was stored")
    parser.add_argument("--index", type=int, metavar="I", help="which tree of the step, from 0; default: the first")
    parser.add_argument("--question", metavar="ID", help="the tree of this question")
    parser.add_argument("--full", action="store_true", help="do not cut long texts")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the tree into this file")
    parser.add_argument("--dark", action="store_true", help="of the drawing: for dark pages")
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
    console.print(LEGEND + (LEGEND_VALUES if record.get("values") else "") + LEGEND_ADVANTAGES)
    return 0
