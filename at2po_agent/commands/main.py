"""The ``at2po-agent`` command: training, evaluation, reading of results, data and indexes.

Everything heavy is imported by the command that needs it, so that ``--help`` and a wrong key answer at once.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from at2po_agent import __version__
from at2po_agent.commands import (
    audit,
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
from at2po_agent.errors import AgentError
from at2po_agent.signals import Interrupted
from at2po_agent.terminal import harmless, say
from at2po_agent.update.processes import EndedElsewhere
from search_backend.open_files import limit_reached

PROGRAM = "at2po-agent"
VERBS = (
    *(train, study, audit, export, show_tree, gates, warm_start, eval, data, index),
    *(view, results, retokenise, plan, serve),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0: done; 1: a gate is not passed, or a plan does not fit; 2: something asked for is wrong or missing, one line on
    stderr says what; 130 and 143: ended by Ctrl-C or SIGTERM. An error that nobody foresaw keeps its traceback.
    """
    arguments = _parse(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except KeyboardInterrupt:
        say(f"{PROGRAM}: interrupted", error=True)
        return 128 + signal.SIGINT
    except Interrupted as error:
        say(f"{PROGRAM}: {error}", error=True)
        return 128 + error.number
    except EndedElsewhere:
        return 2
    except Exception as error:
        if limit := limit_reached(error):
            say(f"{PROGRAM}: error: {limit}", error=True)
            return 2
        if not isinstance(error, AgentError) and not isinstance(error, _foreseen()):
            raise
        say(f"{PROGRAM}: error: {error}", error=True)
        return 2


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Like ``parse_args``, but key=value may stand anywhere between the options."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and (not hasattr(arguments, "overrides") or any(text.startswith("-") for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides += rest
    return arguments


class _Parser(argparse.ArgumentParser):
    """A parser whose messages, which repeat what was typed, cannot steer the terminal."""

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(harmless(message), file)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROGRAM, description="Train search agents with AT²PO and look at the runs.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    for verb in VERBS:
        verb.add_parser(commands)
    return parser


def _foreseen() -> tuple[type[Exception], ...]:
    """Errors of the packages below whose message is for the user; imported only when something went wrong."""
    import gymnasium

    from at2po_env import EnvError
    from search_backend.base import SearchError

    return EnvError, SearchError, gymnasium.error.Error


if __name__ == "__main__":
    sys.exit(main())
