"""``at2po-agent configs``: list the packaged configurations, or print one."""

from __future__ import annotations

import argparse
from typing import Any

from at2po_agent.commands.options import complete
from at2po_agent.terminal import say

FOLDERS = {
    "runs": "whole runs, of train and plan",
    "models": "pieces of runs, composed: train --cfg qwen3-4b --cfg multi-hop --cfg at2po",
    "tasks": None,
    "algorithms": None,
    "ablations": None,
    "settings": None,
    "evaluations": "of eval",
    "studies": "of study",
    "warm-starts": "of warm-start",
}
"""Folders of configurations in the order of the list, with the heading that begins there."""


def add_parser(commands: Any) -> None:
    """Add ``configs`` to the subparsers of the command."""
    from at2po_agent.config_files import packaged

    parser = commands.add_parser("configs", help="list the configurations that --cfg knows by name, or print one")
    complete(parser.add_argument("name", nargs="?", metavar="NAME", help="print this one"), packaged)
    parser.set_defaults(command=_configs)


def _configs(arguments: argparse.Namespace) -> int:
    from at2po_agent.config_files import locate, packaged, summary

    if arguments.name is not None:
        say(locate(arguments.name).read_text(encoding="utf-8").rstrip("\n"))
        return 0
    found = packaged()
    width = max(map(len, found))
    for folder, heading in FOLDERS.items():
        if heading:
            say(heading)
        say(f"  {folder}")
        for name, path in found.items():
            if path.parent.name == folder:
                say(f"    {name:{width}}  {summary(path)}")
    return 0
