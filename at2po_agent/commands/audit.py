"""``at2po-agent audit``: compare the credit of stored trees with fresh rollouts from the same turns."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from at2po_agent.terminal import say


def add_parser(commands: Any) -> None:
    """Add ``audit`` to the commands of a parser."""
    audit = commands.add_parser(
        "audit",
        help="compare the credit of stored trees with fresh rollouts from the same turns",
        description="Replay the turns of stored trees, sample new episodes after each with the policy of that step, "
        "and compare V(n) and A(n) of every form with their mean reward. Write audit.json, audit.html and audit.md. "
        "See docs/studies.md.",
    )
    audit.add_argument("run", type=Path, metavar="RUN", help="directory of a training run")
    audit.add_argument("--list", action="store_true", help="list the steps that can be audited, and exit")
    audit.add_argument("--step", type=int, metavar="N", help="default: the last one that can be audited")
    audit.add_argument("--trees", type=int, default=16, metavar="N", help="how many stored trees of the step (16)")
    audit.add_argument("--forks", type=int, default=16, metavar="N", help="fresh rollouts per turn (16)")
    audit.add_argument("--out", type=Path, metavar="DIR", help="default: RUN/audit/step_N")
    audit.set_defaults(command=_audit)


def _audit(arguments: argparse.Namespace) -> int:
    from at2po_agent.errors import ConfigError
    from at2po_agent.judge.results.tables import write_sheets
    from at2po_agent.study.audit import audit, auditable
    from at2po_agent.study.audit_page import notes, sheets, write_audit
    from at2po_agent.terminal import SafeConsole

    known = auditable(arguments.run)
    if arguments.list:
        for step, policy in known.items():
            say(f"step {step}: {policy}")
        return 0
    if arguments.trees < 1 or arguments.forks < 2:
        raise ConfigError("--trees is 1 or more, and --forks 2 or more")
    step = arguments.step if arguments.step is not None else max(known, default=0)
    found = audit(arguments.run, step, arguments.trees, arguments.forks, partial(say, error=True, progress=True))
    out = arguments.out or arguments.run / "audit" / f"step_{step:06d}"
    write_audit(out, found)
    write_sheets(sheets(found), notes(found), "rich", SafeConsole(width=None if sys.stdout.isatty() else 200))
    say(f"audit → {out / 'audit.html'}, {out / 'audit.md'}, {out / 'audit.json'}")
    return 0
