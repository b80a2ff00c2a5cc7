"""``at2po-agent warm-start``: make a starting policy by imitating a scripted searcher."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from at2po_agent.commands.options import add_configuration
from at2po_agent.terminal import say


def add_parser(commands: Any) -> None:
    """Add ``warm-start`` to the subparsers of the command."""
    parser = commands.add_parser("warm-start", help="make a starting policy by imitating a scripted searcher")
    add_configuration(parser, example="seed=2", required=True)
    parser.set_defaults(command=_warm_start)


def _warm_start(arguments: argparse.Namespace) -> int:
    from at2po_agent.settings import load, to_yaml
    from at2po_agent.warmstart.run import WarmStartConfig, run

    if arguments.print_config:
        say(to_yaml(load(WarmStartConfig, arguments.cfg, arguments.overrides)).rstrip("\n"))
        return 0
    run(arguments.cfg, arguments.overrides, say, partial(say, progress=True))
    return 0
