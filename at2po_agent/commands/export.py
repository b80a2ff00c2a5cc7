"""``at2po-agent export``: write a run's policy as a Hugging Face folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from at2po_agent.terminal import say


def add_parser(commands: Any) -> None:
    """Add ``export`` to the subparsers of the command."""
    parser = commands.add_parser("export", help="write a run's policy as a Hugging Face folder")
    parser.add_argument("source", type=Path, metavar="RUN", help="a run directory, or one of its checkpoints")
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist yet")
    parser.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    from at2po_agent.terminal import say_loading

    if arguments.source.is_dir():
        say_loading(arguments.source)

    from at2po_agent.training.export import export

    checkpoint = export(arguments.source, arguments.out, lambda problem: say(problem, error=True))
    say(f"{checkpoint.path} (step {checkpoint.step}) → {arguments.out}")
    return 0
