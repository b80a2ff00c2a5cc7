"""Options that several commands share, and the words that a shell completes for them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from at2po_agent.config_files import packaged


def add_configuration(parser: argparse.ArgumentParser, *, example: str, required: bool = False) -> None:
    """Add ``--cfg``, ``--print-config`` and the ``key=value`` words, which are laid over each other in this order.

    Args:
        parser: of a command.
        example: of overrides.
        required: whether there is nothing to do without a file.
    """
    files = (
        "YAML file, or the name of a packaged one (at2po-agent configs); repeatable, later ones override earlier ones"
    )
    option = parser.add_argument("--cfg", action="append", required=required, metavar="CFG", help=files)
    complete(option, packaged)
    parser.add_argument("--print-config", action="store_true", help="print the whole configuration and stop")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help=f"settings that override the files, e.g. {example}"
    )


def add_imports(parser: argparse.ArgumentParser) -> None:
    """Add ``--import MODULE``, repeatable, for commands that take an id and no configuration."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module to import first, which registers ids",
    )


def complete(option: argparse.Action, words: Callable[[], Any]) -> None:
    """Let a shell complete an option's value with words, or with names of files."""

    def completer(prefix: str, **_: object) -> list[str]:
        from argcomplete.completers import FilesCompleter

        return [*(word for word in words() if word.startswith(prefix)), *FilesCompleter()(prefix)]

    option.completer = completer  # type: ignore[attr-defined] # as argcomplete wants it


def env_words() -> list[str]:
    """Ids of environments that come along, short names and groups of benchmarks."""
    from at2po_env.registration import BENCHMARKS, GENERATED, TASK_FAMILIES

    groups = {group for entry in BENCHMARKS.values() for group in entry.groups} - {GENERATED}
    return [*(entry.id for entry in BENCHMARKS.values()), *TASK_FAMILIES, *BENCHMARKS, *sorted(groups), "all"]
