"""The parsers of the command: grouped help, what was probably meant, and ``-q`` and ``-v`` everywhere."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import Any, NoReturn

from at2po_agent.terminal import Loudness, harmless

_UNKNOWN = re.compile(r"argument (.*): invalid choice: '(.*)' \(choose from (.*)\)", re.S)


class Parser(argparse.ArgumentParser):
    """A parser whose messages, which repeat what was typed, cannot steer the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        loudness = self.add_mutually_exclusive_group()
        for letter, name, what in (
            ("q", Loudness.QUIET, "print only results and errors"),
            ("v", Loudness.VERBOSE, "also print the log lines of libraries, and the traceback of an error"),
        ):
            # Suppressed, so that a command does not set back what stands before its name.
            loudness.add_argument(
                f"-{letter}",
                f"--{name.value}",
                dest="loudness",
                action="store_const",
                const=name,
                default=argparse.SUPPRESS,
                help=what,
            )

    def error(self, message: str) -> NoReturn:
        """End with usage and message; of an unknown word, with the nearest that is known."""
        if match := _UNKNOWN.fullmatch(message):
            option, word, known = match[1], match[2], re.findall(r"[\w.-]+", match[3])
            alike = difflib.get_close_matches(word, known, n=1)
            meant = f"did you mean {alike[0]}?" if alike else f"known: {', '.join(known)}"
            message = f"{option}: there is no {word!r}; {meant}"
        super().error(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(harmless(message), file)


class Group:
    """The commands under one heading of the help; takes the place of argparse's subparsers, which have no headings."""

    def __init__(self, commands: Any, heading: str) -> None:
        self._commands, self._heading = commands, heading
        self._lines: list[tuple[str, str]] = []

    def add_parser(self, name: str, *, help: str, **options: Any) -> argparse.ArgumentParser:
        """Add a command; ``help`` is its line."""
        self._lines.append((name, help))
        parser: argparse.ArgumentParser = self._commands.add_parser(name, **{"description": help, **options})
        return parser

    def help(self) -> str:
        """The heading and a line for each command."""
        return "\n".join([f"{self._heading}:", *(f"  {name:15}{line}" for name, line in self._lines)])
