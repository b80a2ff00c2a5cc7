"""``at2po-agent plan``: what a run will need, from its configuration alone, and whether it fits."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from at2po_agent.commands.options import add_configuration
from at2po_agent.errors import ConfigError
from at2po_agent.terminal import say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from at2po_agent.planning.plan import Plan


def add_parser(commands: Any) -> None:
    """Add the command to the parser's subparsers."""
    parser = commands.add_parser(
        "plan", help="print the memory and the tokens that a run will need, and whether it fits"
    )
    parser.add_argument(
        "--memory", type=float, metavar="GIB", help="memory of each device; default: that of this machine"
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="processes that torchrun will start; default: 1, or on this machine's CPUs the configuration's",
    )
    add_configuration(parser, example="lora.rank=16")
    parser.set_defaults(command=_plan)


def _plan(arguments: argparse.Namespace) -> int:
    from at2po_agent.settings import to_yaml
    from at2po_agent.training.config import load_config

    if arguments.processes is not None and arguments.processes < 1:
        raise ConfigError(f"--processes is {arguments.processes}, it must be at least 1")
    if arguments.memory is not None and not arguments.memory > 0:
        raise ConfigError(f"--memory is {arguments.memory:g}, it must be above 0")
    config = load_config(arguments.cfg, arguments.overrides)
    if arguments.print_config:
        say(to_yaml(config).rstrip("\n"))
        return 0

    from at2po_agent.planning.plan import GIB, device_memory, make_plan
    from at2po_agent.policy.loading import device_of
    from at2po_agent.terminal import SafeConsole

    memory, processes = int((arguments.memory or 0) * GIB), arguments.processes or 1
    if arguments.memory is None:
        memory = device_memory(config.policy.device)
        if arguments.processes is None and device_of(config.policy.device) == "cpu":
            processes = config.processes
            memory //= processes
            if processes > 1:
                say(f"{processes} processes share this machine's memory", progress=True)
    plan = make_plan(config, memory, processes)
    SafeConsole(width=None if sys.stdout.isatty() else 130).print(table(plan, config.name, memory))
    if refusal := plan.refusal(memory):
        say(f"at2po-agent: {refusal}", error=True)
        return 1
    return 0


def table(plan: Plan, name: str, memory: int) -> RenderableType:
    """The plan as it is printed."""
    from rich.console import Group
    from rich.table import Table

    from at2po_agent.planning.plan import gib

    parts = Table(title=f"{name}: memory of a trainer's device, of {gib(memory)}", title_justify="left")
    for column in ("", "while sampling", "update's peak", ""):
        parts.add_column(column, justify="left" if column == "" else "right", no_wrap=column != "")
    for line in plan.lines:
        parts.add_row(line.name, *(gib(size) if size else "–" for size in (line.rollout, line.update)), line.note)
    parts.add_section()
    sums = (sum(line.rollout for line in plan.lines), sum(line.update for line in plan.lines))
    parts.add_row("together", *map(gib, sums), "what tensors take; allocators and CUDA hold some more")
    step = plan.step
    facts = Table(title="a step, at most", title_justify="left", show_header=False)
    facts.add_column(justify="left", no_wrap=True)
    facts.add_column(justify="right", no_wrap=True)
    facts.add_column()
    facts.add_row("parameters", f"{plan.parameters:,}", f"{plan.trained:,} of them trained; by {plan.source}")
    facts.add_row("paths", f"{step.trees * step.leaves:,}", f"{step.trees:,} trees × {step.leaves} leaves")
    facts.add_row("tokens of a path", f"{step.path:,}", f"prompt {step.prompt:,}, response {step.response:,}")
    turns = f"{step.turns} turns, {step.generated_path:,} generated tokens a path"
    facts.add_row("generated tokens", f"{step.generated:,}", turns)
    facts.add_row(
        "packed tokens", f"{step.trained * step.tree:,}", f"{step.tree:,} a tree, whose paths share the prompt"
    )
    facts.add_row("a micro-batch", f"{plan.micro_batch:,}", "packed tokens of one forward and backward")
    if server := plan.server:
        where = "on the trainer's device" if server.shares_device else "on a device of its own"
        facts.add_row("a server", gib(server.share), f"{where}; its weights are {gib(server.weights)}")
        paths = f"{server.tokens // step.path:,} whole paths; {gib(server.per_token)} a token"
        facts.add_row("tokens in its cache", f"{server.tokens:,}", paths)
    return Group(parts, facts, *plan.notes)
