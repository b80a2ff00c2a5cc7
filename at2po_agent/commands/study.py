"""``at2po-agent study``: train variants × seeds at one budget and write one page about them."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from at2po_agent.commands.options import add_configuration
from at2po_agent.terminal import counted, say

if TYPE_CHECKING:
    from at2po_agent.study.cells import CellState
    from at2po_agent.study.config import Study


def add_parser(commands: Any) -> None:
    """Add ``study`` to the commands of a parser."""
    study = commands.add_parser(
        "study",
        help="train variants × seeds at one budget, and compare them on one page",
        description="Train every variant of a study with every seed, several at a time, and write page.html and "
        "page.md into its folder. Run the same command again to continue. See docs/studies.md.",
    )
    study.add_argument("--only-page", action="store_true", help="train nothing; write the page of the finished runs")
    add_configuration(study, example="seeds=[1,2] jobs=4", required=True)
    study.set_defaults(command=_study)


def _study(arguments: argparse.Namespace) -> int:
    from at2po_agent.atomic_files import writing
    from at2po_agent.settings import to_yaml
    from at2po_agent.signals import Interrupted, run
    from at2po_agent.study.cells import check_cells, run_cells, states_of
    from at2po_agent.study.config import load_study
    from at2po_agent.training.run_dir import take_lock

    study = load_study(arguments.cfg, arguments.overrides)
    if arguments.print_config:
        say(to_yaml(study.config).rstrip("\n"))
        return 0
    check_cells(study)
    with writing(study.out):
        study.out.mkdir(parents=True, exist_ok=True)
    again = [word for name in arguments.cfg for word in ("--cfg", name)] + arguments.overrides
    command = shlex.join(["at2po-agent", "study", *again])
    with take_lock(study.out):
        status = 0
        if arguments.only_page:
            states = states_of(study)
        else:
            try:
                states = run(run_cells(study, partial(say, progress=True)))
                status = int(any(state.state != "finished" for state in states.values()))
            except Interrupted as error:
                say(f"stopped; continue with: {command}")
                states, status = states_of(study), 128 + error.number
        _write(study, states, command)
    return status


def _write(study: Study, states: Mapping[str, CellState], command: str) -> None:
    """The page of the runs that are finished, if any."""
    from at2po_agent.judge.results.stored import facts
    from at2po_agent.study.cells import compare_cells
    from at2po_agent.study.page import Page, report

    found = compare_cells(study, states)
    if found is None:
        say("no run is finished: there is no page yet")
        return
    config = study.config
    budget = f"{config.budget.amount:,g} {config.budget.name.replace('_', ' ')}"
    matrix = f"{counted(len(config.variants), 'variant')} × {counted(len(config.seeds), 'seed')}"
    reference = found.variants[0].name
    subtitle = f"{matrix} at {budget} a run, compared with {reference}"
    if reference != study.reference:
        subtitle += f" (the study's reference, {study.reference}, has no finished run)"
    page = report(Page(config.name, subtitle, tuple(facts(vars(config) | {"budget": budget}))), found)
    page.write_html(study.out / "page.html")
    page.write_markdown(study.out / "page.md", [command])
    say(f"page → {study.out / 'page.html'}, {study.out / 'page.md'}")
