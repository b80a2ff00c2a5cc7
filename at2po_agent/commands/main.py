"""The ``at2po-agent`` command: training, evaluation, reading of results, data and indexes.

Everything heavy is imported by the command that needs it, so that ``--help`` and a wrong key answer at once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import NoReturn

from at2po_agent import __version__
from at2po_agent.commands import (
    audit,
    configs,
    data,
    eval,
    export,
    gates,
    index,
    plan,
    results,
    retokenise,
    serve,
    show_tree,
    study,
    train,
    view,
    warm_start,
)
from at2po_agent.commands.exits import PROGRAM, leave, status_of
from at2po_agent.commands.parsing import Group, Parser
from at2po_agent.terminal import Loudness, set_loudness

GROUPS = {
    "train": (train, warm_start, configs, plan, study, export),
    "judge": (eval, results),
    "look": (view, show_tree, audit),
    "data and environments": (data, index, gates, retokenise, serve),
}
VERBS = tuple(verb for verbs in GROUPS.values() for verb in verbs)
EXAMPLES = """examples:
  at2po-agent train --cfg quickstart                            train a small policy: under a minute on two cores
  at2po-agent train --cfg quickstart --cfg grpo seed=1          another algorithm, another seed
  at2po-agent train --cfg qwen3-4b --cfg multi-hop --cfg at2po  a row of the paper, composed
  at2po-agent show-tree RUN                                     turns, entropy, value, advantage, reward
  at2po-agent eval -m RUN --start                               before training against after
  at2po-agent eval -e AT2PO-HotpotQA-v0 -m MODEL -b https://HOST/v1 -k KEY_VAR -n 500
  at2po-agent view RUN --html run.html                          everything in one file

`at2po-agent COMMAND --help` has the options of a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0: done; 1: a gate is not passed, or a plan does not fit; 2: something asked for is wrong or missing, one line on
    stderr says what; 130 and 143: ended by Ctrl-C or SIGTERM. An error that nobody foresaw keeps its traceback.
    """
    arguments = _parse(argv)
    set_loudness(arguments.loudness)
    command: Callable[[argparse.Namespace], int] = arguments.command
    return status_of(lambda: command(arguments))


def run() -> NoReturn:
    """The program: run the command that it was called with, and end the process."""
    leave(main())


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Like ``parse_args``, but key=value may stand anywhere between the options."""
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what it can complete
        import argcomplete

        argcomplete.autocomplete(parser)
    arguments, rest = parser.parse_known_args(argv)
    if rest and (not hasattr(arguments, "overrides") or any(text.startswith("-") for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides += rest
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROGRAM, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(loudness=Loudness.NORMAL)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    parser.usage = f"{PROGRAM} [-h] [-q | -v] [--version] COMMAND ..."
    headings = []
    for heading, verbs in GROUPS.items():
        headings.append(group := Group(commands, heading))
        for verb in verbs:
            verb.add_parser(group)
    parser.description = "\n\n".join(
        ["Train search agents with AT²PO, judge models, and look at the runs.", *(group.help() for group in headings)]
    )
    parser.epilog = EXAMPLES
    return parser


if __name__ == "__main__":
    run()
