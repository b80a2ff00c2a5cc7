"""``at2po-agent warm-start``: make a starting policy by imitating a scripted searcher."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add ``warm-start`` to the subparsers of the command."""
    parser = commands.add_parser("warm-start", help="make a starting policy by imitating a scripted searcher")
    parser.add_argument("--cfg", type=Path, required=True, metavar="FILE", help="YAML configuration")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="laid over the file")
    parser.set_defaults(command=_warm_start)


def _warm_start(arguments: argparse.Namespace) -> int:
    from at2po_agent.warmstart.run import run

    run(arguments.cfg, arguments.overrides)
    return 0
