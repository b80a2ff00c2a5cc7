"""``at2po-agent retokenise``: sample paths, encode their text again, and show what that changes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2po_agent.commands.options import complete, env_words
from at2po_agent.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from at2po_agent.planning.retokenise import TurnDrift

BAR = 24  # characters of a share of 1


def add_parser(commands: Any) -> None:
    """Add the command to the parser's subparsers."""
    parser = commands.add_parser(
        "retokenise", help="measure how often re-encoding changes the sampled tokens, and what that does to the ratios"
    )
    parser.add_argument("policy", metavar="POLICY", help="a Hugging Face model directory, or builtin:microwiki")
    which = "a Gymnasium id, e.g. AT2PO-MicroWiki-v0"
    complete(parser.add_argument("env", metavar="ENV_ID", help=which), env_words)
    parser.add_argument("--questions", type=int, default=64, metavar="N", help="use the first N of the split (64)")
    parser.add_argument("--chains", type=int, default=4, metavar="N", help="paths per question (4)")
    parser.add_argument("--split", default="dev", help="which questions (dev)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="temperature of sampling (1)")
    parser.add_argument("--max-turn-tokens", type=int, default=512, metavar="N", help="most tokens per turn (512)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the policy runs (auto)"
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also write the plot to FILE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers of every turn to FILE")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="arguments of gymnasium.make")
    parser.set_defaults(command=_retokenise)


def _retokenise(arguments: argparse.Namespace) -> int:
    from at2po_agent.atomic_files import write_text
    from at2po_agent.settings import read_overrides
    from at2po_agent.terminal import SafeConsole

    for name in ("questions", "chains", "max_turn_tokens"):
        if getattr(arguments, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}, it must be at least 1")
    if not arguments.temperature > 0:
        raise ConfigError(f"--temperature is {arguments.temperature}, it must be above 0: training samples")
    kwargs = read_overrides(arguments.overrides)

    from at2po_agent.environments import check_env_id
    from at2po_agent.policy.loading import resolve_policy
    from at2po_agent.terminal import say_loading

    check_env_id(arguments.env)
    resolve_policy(arguments.policy)
    say_loading(arguments.policy)
    drifts = _measure(arguments, kwargs)
    console = SafeConsole(record=True, width=None if sys.stdout.isatty() else 130)
    title = f"{arguments.policy} on {arguments.env}: sampled ids against the ids of their text"
    console.print(plot(drifts, title))
    if arguments.json:
        write_text(arguments.json, "".join(json.dumps(vars(drift)) + "\n" for drift in drifts))
    if arguments.svg:
        write_text(arguments.svg, console.export_svg(title="at2po-agent retokenise"))
    return 0


def _measure(arguments: argparse.Namespace, kwargs: Mapping[str, Any]) -> list[TurnDrift]:
    import transformers

    from at2po_agent.environments import make_env
    from at2po_agent.method.expansion import Chains
    from at2po_agent.planning.retokenise import measure
    from at2po_agent.policy.architecture import positions
    from at2po_agent.policy.base import Sampling
    from at2po_agent.policy.loading import PolicyConfig, load_model
    from at2po_agent.policy.local.policy import LocalPolicy
    from at2po_agent.rollouts.batch import rollout
    from at2po_agent.rollouts.grow import Actor, Limits
    from at2po_agent.tasks import run

    transformers.utils.logging.disable_progress_bar()
    model, codec = load_model(PolicyConfig(arguments.policy, device=arguments.device))
    with (
        closing(make_env(arguments.env, arguments.split, kwargs)) as env,
        closing(LocalPolicy(model, codec)) as policy,
    ):
        _check_turns(arguments.env, env.limits)
        limits = Limits(max_turn_tokens=arguments.max_turn_tokens, max_context_tokens=positions(model))
        actor = Actor(policy, codec, Sampling(arguments.temperature), limits)
        ids = env.tasks[: arguments.questions]
        grown = run(rollout(env, ids, actor, Chains(arguments.chains), key=(arguments.seed,)))
    for tree in grown.trees:
        tree.prune()
    return measure(model, codec, grown.trees, arguments.temperature)


def _check_turns(env_id: str, limits: Mapping[str, Any]) -> None:
    # An environment that says nothing of turns is trusted to end its episodes.
    if limits.get("max_turns", 0) is None:
        raise ConfigError(
            f"{env_id} has no limit of turns, so a path may go on until the policy's context is full; give it one: "
            "fork={how: replay, max_turns: 20}"
        )


def plot(drifts: Sequence[TurnDrift], title: str) -> Table:
    """Drift and turn ratios by turn number, over all turns, and by what drifted, with bars."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("turns", no_wrap=True)
    for name in ("n", "own ids differ", "tokens changed", "|log s| median", "95 %", "max", "outside ATPO's clip"):
        table.add_column(name, justify="right", no_wrap=name == "own ids differ")
    for turn in sorted({drift.turn for drift in drifts}):
        _add_row(table, f"turn {turn}", [drift for drift in drifts if drift.turn == turn])
    table.add_section()
    _add_row(table, "all", drifts)
    table.add_section()
    _add_row(table, "own ids differ", [drift for drift in drifts if drift.drifted])
    _add_row(table, "only those before", [drift for drift in drifts if drift.history_drifted and not drift.drifted])
    _add_row(table, "nothing differs", [drift for drift in drifts if not drift.history_drifted and not drift.drifted])
    table.add_section()
    _add_row(table, "ids kept, as sampled", drifts, exact=True)
    return table


def _add_row(table: Table, name: str, drifts: Sequence[TurnDrift], exact: bool = False) -> None:
    from at2po_agent.method.objective import ATPO
    from at2po_agent.planning.retokenise import quantile

    if not drifts:
        table.add_row(name, "0", *["–"] * 6)
        return
    n = len(drifts)
    ratios = [drift.engine_log_ratio if exact else drift.log_ratio for drift in drifts]
    differ = 0.0 if exact else sum(drift.drifted for drift in drifts) / n
    changed = 0.0 if exact else sum(drift.changed for drift in drifts) / sum(drift.tokens for drift in drifts)
    sizes, bounds = [abs(ratio) for ratio in ratios], ATPO()
    outside = sum(not -bounds.eps_low <= _ratio(ratio) - 1 <= bounds.eps_high for ratio in ratios) / n
    numbers = [f"{quantile(sizes, share):.1e}" for share in (0.5, 0.95, 1.0)]
    bar = "█" * round(BAR * differ)
    table.add_row(name, f"{n:,}", f"{bar} {differ:.1%}".strip(), f"{changed:.1%}", *numbers, f"{outside:.1%}")


def _ratio(log_ratio: float) -> float:
    from math import exp

    return exp(min(log_ratio, 10.0))
