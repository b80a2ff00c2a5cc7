"""``at2po-agent compare``, ``rescore`` and ``export-traces``: commands on stored evaluations."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2po_agent.commands.view import FILTERS
from at2po_agent.errors import ConfigError
from at2po_agent.terminal import say

if TYPE_CHECKING:
    from rich.console import Console

    from at2po_agent.judge.results.rescore import Rescored
    from at2po_agent.judge.results.stored import Finished
    from at2po_agent.study.page import Report


def add_parser(commands: Any) -> None:
    """Add the three to the subparsers of the command."""
    compare = commands.add_parser("compare", help="compare evaluations, or training runs, with paired differences")
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run; the first one is the baseline")
    compare.add_argument(
        "--metric", metavar="NAME", help="e.g. f1, turns or completion_tokens; default: the tasks' first metric"
    )
    compare.add_argument("--format", choices=("rich", "markdown", "latex"), default="rich")
    compare.add_argument(
        "--trees", action="store_true", help="of eval --tree: compare chains, votes and trees against tokens"
    )
    page = "for training runs, or with --trees: "
    compare.add_argument("--html", type=Path, metavar="FILE", help=page + "write one file with their curves")
    compare.add_argument("--markdown", type=Path, metavar="FILE", help=page + "write the same tables, with the command")
    compare.add_argument("--anyway", action="store_true", help="compare even if data or settings differ, and note it")
    compare.set_defaults(command=_compare)

    rescore = commands.add_parser(
        "rescore", help="score the stored answers or turns of an evaluation again, without a model"
    )
    rescore.add_argument("run", type=Path, metavar="RUN", help="the directory of an evaluation")
    rescore.set_defaults(command=_rescore)

    traces = commands.add_parser(
        "export-traces", help="write episodes as chat-format JSON lines for fine-tuning, or as an Inspect log"
    )
    traces.add_argument("run", type=Path, metavar="RUN", help="the directory of an evaluation")
    traces.add_argument("--only", choices=FILTERS, help="which episodes; default: all that were scored")
    traces.add_argument("--format", choices=("chat", "inspect"), default="chat", help="default: chat")
    traces.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="default: RUN/traces.jsonl, or RUN/traces-ONLY.jsonl; for Inspect, .eval",
    )
    traces.set_defaults(command=_export_traces)


def _compare(arguments: argparse.Namespace) -> int:
    from at2po_agent.judge.results.comparison import compare
    from at2po_agent.judge.results.stored import Finished
    from at2po_agent.judge.results.tables import write_table
    from at2po_agent.study.runs import is_training
    from at2po_agent.terminal import SafeConsole

    wide = None if sys.stdout.isatty() else 200  # a pipe has no width of its own
    if arguments.trees:
        return _compare_trees(arguments, SafeConsole(width=wide))
    if is_training(arguments.runs[0]):
        return _compare_training(arguments, SafeConsole(width=wide))
    if arguments.html or arguments.markdown:
        raise ConfigError(
            "--html and --markdown need training runs, or evaluations with --trees; `view RUN --html FILE` writes the "
            "page of a single evaluation"
        )
    runs = [Finished.read(path, texts=False) for path in arguments.runs]
    comparison = compare(runs, arguments.metric, anyway=arguments.anyway)
    write_table(comparison, arguments.format, SafeConsole(width=wide))
    return 0


def _compare_training(arguments: argparse.Namespace, console: Console) -> int:
    from at2po_agent.study.comparison import TrainingComparison, by_configuration
    from at2po_agent.study.page import Page, report
    from at2po_agent.study.runs import TrainedRun

    runs = [TrainedRun.read(path) for path in arguments.runs]
    found = TrainingComparison.of(by_configuration(runs), anyway=arguments.anyway)
    if arguments.metric not in (None, found.measured.metric):
        raise ConfigError(f"--metric: training runs store only {found.measured.metric} for each question")
    return _show(arguments, console, report(Page(f"{found.measured.source}: training runs"), found))


def _compare_trees(arguments: argparse.Namespace, console: Console) -> int:
    from at2po_agent.study.black_box import read_evaluations
    from at2po_agent.study.black_box_page import tree_report

    if arguments.metric is not None:
        raise ConfigError(
            "--metric: leave it out with --trees, which compares the tasks' first metric, as paths vote on it"
        )
    return _show(arguments, console, tree_report(read_evaluations(arguments.runs)))


def _show(arguments: argparse.Namespace, console: Console, report: Report) -> int:
    """Print what is compared, and write its page."""
    from at2po_agent.judge.results.tables import write_sheets

    write_sheets(report.sheets, report.notes, arguments.format, console)
    files = {"--html": arguments.html, "--markdown": arguments.markdown}
    if arguments.html:
        report.write_html(arguments.html)
    if arguments.markdown:
        report.write_markdown(arguments.markdown, [_command(arguments, files)])
    if written := [str(file) for file in files.values() if file]:
        say(f"{len(arguments.runs):,} runs → {', '.join(written)}")
    return 0


def _command(arguments: argparse.Namespace, files: Mapping[str, Path | None]) -> str:
    """The command line that was given."""
    switches = [name for name, on in (("--trees", arguments.trees), ("--anyway", arguments.anyway)) if on]
    written = [word for name, file in files.items() if file for word in (name, str(file))]
    return shlex.join(["at2po-agent", "compare", *switches, *map(str, arguments.runs), *written])


def _rescore(arguments: argparse.Namespace) -> int:
    from at2po_agent.judge.results.rescore import rescore

    _print_rescored(rescore(arguments.run))
    return 0


def _print_rescored(found: Rescored) -> None:
    from rich.table import Table
    from rich.text import Text

    from at2po_agent.terminal import SafeConsole, amount, percent

    table = Table(title=Text(found.of), title_justify="left")
    for name in ("", "stored", "now", "95 % interval"):
        table.add_column(name, justify="right" if name else "left")
    for metric in found.metrics:
        old, new = found.before.means.get(metric.name), found.after.means.get(metric.name)
        form = percent if metric.share else amount
        if old and new:
            table.add_row(metric.name, form(old.mean), form(new.mean), f"[{form(new.low)}, {form(new.high)}]")
    console = SafeConsole(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    verb = "has" if found.changed == 1 else "have"
    console.print(f"{found.changed:,} of {found.episodes:,} episodes {verb} another score", markup=False)


def _export_traces(arguments: argparse.Namespace) -> int:
    from at2po_agent.judge.results.stored import Finished

    only, inspected = f"-{arguments.only}" if arguments.only else "", arguments.format == "inspect"
    out = arguments.out or arguments.run / f"traces{only}.{'eval' if inspected else 'jsonl'}"
    written = _exporter(arguments.format)(Finished.read(arguments.run), out, arguments.only)
    say(f"{written:,} episode{'' if written == 1 else 's'} → {out}")
    return 0


def _exporter(form: str) -> Callable[[Finished, Path, str | None], int]:
    if form == "chat":
        from at2po_agent.judge.results.traces import export_traces

        return export_traces
    if importlib.util.find_spec("inspect_ai") is None:
        raise ConfigError("--format inspect needs the package inspect-ai: pip install 'at2po[inspect]'")
    from at2po_agent.integrations.inspect_log import export_inspect

    return export_inspect
