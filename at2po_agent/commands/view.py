"""``at2po-agent view``: read a run's episodes in the terminal, or write one HTML file with everything in it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2po_agent.terminal import say

if TYPE_CHECKING:
    from rich.console import Console

    from at2po_agent.judge.episodes.records import EpisodeRecord
    from at2po_agent.judge.results.stored import Finished

FILTERS = ("correct", "wrong", "malformed", "cut", "error")  # of records.FILTERS, which --help does not import


def add_parser(commands: Any) -> None:
    """Add ``view`` to the subparsers of the command."""
    view = commands.add_parser("view", help="read a run's episodes, or write them as one HTML file")
    view.add_argument(
        "run", type=Path, metavar="RUN", help="directory of an evaluation; with --html also of a training run"
    )
    view.add_argument("--html", type=Path, metavar="FILE", help="write everything into one file that needs no network")
    view.add_argument(
        "--trees", type=int, default=2000, metavar="N", help="of a training run: about how many trees to include (2000)"
    )
    view.add_argument("--filter", choices=FILTERS, help="only these episodes")
    view.add_argument("--question", metavar="ID", help="only the episodes of this question, turn by turn")
    view.add_argument("--full", action="store_true", help="print the texts of the passages too")
    view.set_defaults(command=_view)


def _view(arguments: argparse.Namespace) -> int:
    from at2po_agent.judge.results.stored import Finished
    from at2po_agent.judge.view.run_page import write_report
    from at2po_agent.terminal import SafeConsole
    from at2po_agent.training.run_dir import RunDirError

    if arguments.html:
        chosen = (arguments.filter, arguments.question)
        if (arguments.run / "trees").is_dir() and chosen != (None, None):
            raise RunDirError(f"{arguments.run} is a training run: --filter and --question are of evaluations")
        shown = write_report(arguments.run, arguments.html, arguments.trees, lambda run: _selected(run, *chosen))
        say(f"{shown} → {arguments.html}")
        return 0
    if (arguments.run / "trees").is_dir():
        raise RunDirError(
            f"{arguments.run} is a training run: `at2po-agent show-tree` prints its trees, --html FILE draws them"
        )
    run = Finished.read(arguments.run)
    episodes = _selected(run, arguments.filter, arguments.question)
    console = SafeConsole(width=None if sys.stdout.isatty() else 160)  # a pipe has no width of its own
    if arguments.question is not None:
        _print(console, episodes, arguments.full)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        browse(console, run, arguments.filter or "all", input)
    else:
        _list(console, run, episodes)
    return 0


def _selected(run: Finished, chosen: str | None, question: str | None) -> list[EpisodeRecord]:
    from at2po_agent.judge.episodes.records import FILTERS as fits
    from at2po_agent.training.run_dir import RunDirError

    episodes = [
        episode
        for episode in run.episodes
        if (chosen in (None, "all") or fits[str(chosen)](episode)) and question in (None, episode.question_id)
    ]
    if question is not None and not episodes:
        raise RunDirError(f"{run.path} has no {chosen or 'finished'} episode of question {question!r}")
    return episodes


def _list(console: Console, run: Finished, episodes: Sequence[EpisodeRecord]) -> None:
    from at2po_agent.intervals import mean_interval, share_interval
    from at2po_agent.judge.results.metrics import by_question, question_means
    from at2po_agent.judge.view.transcript import episode_table
    from at2po_agent.terminal import amount, percent

    console.print(episode_table(episodes, _title(run, episodes), console.width))
    measured = run.measured
    scored = question_means(by_question(run.samples).values(), measured.measures[measured.first.name])
    if scored:
        mean = share_interval(scored) if measured.first.share else mean_interval(scored)
        of = "" if run.tree is None else " of the chains that each tree began with,"
        form = percent if measured.first.share else amount
        middle, low, high = map(form, (mean.mean, mean.low, mean.high))
        over = f"{mean.n} {measured.task_word}s"
        console.print(f"{measured.first}{of} {middle} [{low}, {high}] over {over}", markup=False)


def _title(run: Finished, episodes: Sequence[EpisodeRecord]) -> str:
    demo = " (demo questions about an invented world)" if run.demo else ""
    return f"{run.model} on {run.benchmark} {run.split}{demo}: {len(episodes)} of {len(run.episodes)} episodes"


def _print(console: Console, episodes: Sequence[EpisodeRecord], full: bool) -> None:
    from at2po_agent.judge.view.transcript import transcript

    for episode in episodes:
        console.print(transcript(episode, passages=full))
        console.print()


_HELP = "Enter next, p previous, NUMBER read it, t texts of passages, l list, {}, q quit".format(
    " ".join(("all", *FILTERS))
)


def browse(console: Console, run: Finished, chosen: str, ask: Callable[[str], str]) -> None:
    """Read episodes one after another until ``q`` or the end of the input.

    Args:
        console: where they are shown.
        run: whose episodes.
        chosen: a filter, or ``all``.
        ask: shows a prompt and returns a line; ``EOFError`` ends.
    """
    episodes = _selected(run, chosen, None)
    at, full, said = -1, False, "l"
    while said not in ("q", "quit"):
        if said in ("all", *FILTERS):
            chosen, at = said, -1
            episodes = _selected(run, chosen, None)
        if said in ("l", "all", *FILTERS):
            _page(console, run, episodes, max(at, 0))
        else:
            full = full != (said == "t")
            at = _moved(said, at)
            if 0 <= at < len(episodes):
                _print(console, [episodes[at]], full)
            else:
                console.print(f"there is no episode {at + 1} here: 1 to {len(episodes)}", markup=False)
                at = min(max(at, -1), len(episodes) - 1)
        try:
            said = ask(f"{_HELP}\n[{chosen} {at + 1}/{len(episodes)}] > ").strip().lower()
        except EOFError:
            return


def _page(console: Console, run: Finished, episodes: Sequence[EpisodeRecord], start: int) -> None:
    """As many rows from ``start`` as fit on the screen."""
    from at2po_agent.judge.view.transcript import episode_table

    rows = episodes[start : start + max(5, console.height - 8)]
    console.print(episode_table(rows, _title(run, episodes), console.width, start + 1))


def _moved(said: str, at: int) -> int:
    """The new position for an answer, from 0; anything that is no position stays."""
    if said.isdecimal():
        return int(said) - 1
    return at + {"": 1, "n": 1, "p": -1}.get(said, 0)
