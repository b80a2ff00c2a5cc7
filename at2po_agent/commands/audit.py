"""``at2po-agent audit``: compare the credit of stored trees with fresh rollouts from the same turns."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2po_agent.terminal import say

if TYPE_CHECKING:
    from at2po_agent.study.audit import Audit


def add_parser(commands: Any) -> None:
    """Add ``audit`` to the commands of a parser."""
    audit = commands.add_parser(
        "audit",
        help="compare the credit of stored trees with fresh rollouts from the same turns",
        description="Replay the turns of stored trees, sample new episodes after each with the policy of that step, "
        "and compare V(n) and A(n) of every form with their mean reward. Write audit.json, audit.html and audit.md. "
        "See docs/studies.md.",
    )
    audit.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="directory of a training run")
    audit.add_argument("--list", action="store_true", help="list the steps that can be audited, and exit")
    audit.add_argument("--step", type=int, metavar="N", help="default: the last one that can be audited")
    audit.add_argument("--trees", type=int, default=16, metavar="N", help="how many stored trees of the step (16)")
    audit.add_argument("--forks", type=int, default=16, metavar="N", help="fresh rollouts per turn (16)")
    audit.add_argument(
        "--join",
        action="store_true",
        help="sample nothing: write the finished audits of one step, such as those of several seeds, to one page in "
        "--out; the RUNs are their directories",
    )
    audit.add_argument("--out", type=Path, metavar="DIR", help="default: RUN/audit/step_N")
    audit.set_defaults(command=_audit)


def _audit(arguments: argparse.Namespace) -> int:
    from at2po_agent.errors import ConfigError
    from at2po_agent.study.audit import audit, auditable, joined, read_audit

    if arguments.join:
        if arguments.out is None:
            raise ConfigError("--join needs a directory for its page: add --out DIR")
        command = ["--join", *arguments.runs, "--out", arguments.out]
        return _write(arguments.out, joined([read_audit(folder) for folder in arguments.runs]), command)
    run, *others = arguments.runs
    if others:
        raise ConfigError("one RUN is audited at a time; --join puts finished audits on one page")
    known = auditable(run)
    if arguments.list:
        for step, policy in known.items():
            say(f"step {step}: {policy}")
        return 0
    if arguments.trees < 1 or arguments.forks < 2:
        raise ConfigError("--trees is 1 or more, and --forks 2 or more")
    step = arguments.step if arguments.step is not None else max(known, default=0)
    found = audit(run, step, arguments.trees, arguments.forks, partial(say, error=True, progress=True))
    command = [run, "--step", step, "--trees", arguments.trees, "--forks", arguments.forks]
    return _write(arguments.out or run / "audit" / f"step_{step:06d}", found, command)


def _write(out: Path, found: Audit, command: Sequence[object]) -> int:
    from at2po_agent.judge.results.tables import write_sheets
    from at2po_agent.study.audit_page import notes, sheets, write_audit
    from at2po_agent.terminal import SafeConsole

    write_audit(out, found, [shlex.join(["at2po-agent", "audit", *map(str, command)])])
    write_sheets(sheets(found), notes(found), "rich", SafeConsole(width=None if sys.stdout.isatty() else 200))
    say(f"audit → {out / 'audit.html'}, {out / 'audit.md'}, {out / 'audit.json'}")
    return 0
