"""The ``at2po-agent`` command: training, evaluation, reading of results, data and indexes.

Everything heavy is imported by the command that needs it, so that ``--help`` and a wrong key answer at once.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from at2po_agent.commands.data import add_data_command
from at2po_agent.commands.eval import add_eval_command
from at2po_agent.commands.index import add_index_command
from at2po_agent.commands.plan import add_plan_command
from at2po_agent.commands.results import add_results_commands
from at2po_agent.commands.retokenise import add_retokenise_command
from at2po_agent.commands.train import add_train_command
from at2po_agent.commands.view import add_view_command
from at2po_agent.settings import ConfigError
from at2po_agent.update.processes import EndedElsewhere, ProcessLost

PROGRAM = "at2po-agent"


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
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except EndedElsewhere:
        return 2
    except Exception as error:
        if not isinstance(error, _expected()):
            raise
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Train search agents with AT²PO and look at the runs.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version('at2po')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add_train_command(commands)

    export = commands.add_parser("export", help="write a run's policy as a Hugging Face folder")
    export.add_argument("source", type=Path, metavar="RUN", help="a run directory, or one of its checkpoints")
    export.add_argument("out", type=Path, metavar="OUT", help="a folder that does not exist yet")
    export.set_defaults(command=_export)

    show = commands.add_parser("show-tree", help="print a stored tree: turns, entropy, value, advantage, reward")
    show.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    show.add_argument("--step", type=int, metavar="N", help="default: the last that was stored")
    show.add_argument("--index", type=int, metavar="I", help="which tree of the step, from 0; default: the first")
    show.add_argument("--question", metavar="ID", help="the tree of this question")
    show.add_argument("--full", action="store_true", help="do not cut long texts")
    show.set_defaults(command=_show_tree)

    gates = commands.add_parser("gates", help="measure whether an environment is worth training on")
    gates.add_argument("env", metavar="ENV_ID", help="a Gymnasium id, e.g. AT2PO-MicroWiki-v0")
    gates.add_argument("--policy", metavar="PATH", help="measure this policy too, e.g. builtin:microwiki")
    gates.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="MODULE", help="import it first"
    )
    what = "questions=500, split=test, or anything that gymnasium.make is to pass on"
    gates.add_argument("overrides", nargs="*", metavar="key=value", help=what)
    gates.set_defaults(command=_gates)

    warm = commands.add_parser("warm-start", help="make a starting policy by imitating a scripted searcher")
    warm.add_argument("--cfg", type=Path, required=True, metavar="FILE", help="YAML configuration")
    warm.add_argument("overrides", nargs="*", metavar="key=value", help="laid over the file")
    warm.set_defaults(command=_warm_start)

    add_eval_command(commands)
    add_data_command(commands)
    add_index_command(commands)
    add_view_command(commands)
    add_results_commands(commands)
    add_retokenise_command(commands)
    add_plan_command(commands)
    return parser


def _export(arguments: argparse.Namespace) -> int:
    from at2po_agent.training.export import export

    found = export(arguments.source, arguments.out, lambda problem: print(problem, file=sys.stderr))
    print(f"{found.path} (step {found.step}) → {arguments.out}")
    return 0


def _show_tree(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from at2po_agent.training.stored_trees import find_tree, render

    step, index, record = find_tree(arguments.run, arguments.step, arguments.index, arguments.question)
    console = Console(highlight=False)
    console.print(f"step {step}, tree {index}, question {record['tree']['question_id']}", markup=False)
    console.print(render(record, width=0 if arguments.full else 300))
    return 0


def _gates(arguments: argparse.Namespace) -> int:
    from omegaconf import OmegaConf
    from rich.console import Console

    from at2po_agent.environments import import_tasks
    from at2po_agent.planning.gates import gates

    for text in arguments.overrides:
        if not text.partition("=")[1]:
            raise ConfigError(f"{text!r}: write it as key=value, for example questions=200")
    kwargs: Any = OmegaConf.to_container(OmegaConf.from_dotlist(arguments.overrides))
    import_tasks(arguments.imports)
    if arguments.policy:
        kwargs["policy_em"] = _policy_em(arguments.env, arguments.policy, kwargs)
    report = gates(arguments.env, **kwargs)
    console = Console()
    wide = None if console.is_terminal else 160  # a file or a pipe has no width of its own
    console.print(report.to_table(), width=wide)
    return 0 if report.passed else 1


def _policy_em(env_id: str, policy: str, kwargs: Mapping[str, Any]) -> Callable[[Sequence[str]], Mapping[str, float]]:
    """Greedy exact match of a policy, question by question, on the split that the gates are measured on."""
    from at2po_agent.environments import EnvConfig
    from at2po_agent.rollouts.evaluate import evaluate
    from at2po_agent.rollouts.outages import Outages
    from at2po_agent.training.config import EvalConfig, PolicyConfig, TrainConfig
    from at2po_agent.training.session import open_session

    passed_on = {key: value for key, value in kwargs.items() if key not in ("split", "fit_split", "questions")}
    split = kwargs.get("split", "test")
    config = TrainConfig(
        env=EnvConfig(env_id, split, passed_on), policy=PolicyConfig(policy), eval=EvalConfig(split=split)
    )

    outages = Outages(lambda line: print(line, file=sys.stderr))

    def exact_match(ids: Sequence[str]) -> dict[str, float]:
        with closing(open_session(config)) as session:
            found = asyncio.run(
                evaluate(session.eval_env, ids, session.engine, session.codec, limits=session.limits, outages=outages)
            )
        return {episode.question_id: episode.em for episode in found.episodes}

    return exact_match


def _warm_start(arguments: argparse.Namespace) -> int:
    from at2po_agent.warmstart.run import run

    run(arguments.cfg, arguments.overrides)
    return 0


def _expected() -> tuple[type[Exception], ...]:
    """Errors whose message is for the user; looked up only when something went wrong."""
    import gymnasium

    from at2po_agent.atomic_files import DiskError
    from at2po_agent.hub import HubError
    from at2po_agent.policy.base import PolicyError
    from at2po_agent.policy.codec import EncodingError
    from at2po_agent.training.run_dir import RunDirError
    from at2po_env.dataset import DataError, DataNotFound
    from search_backend.base import SearchError

    known: list[type[Exception]] = [ConfigError, DiskError, EncodingError, HubError, PolicyError, ProcessLost]
    known += [RunDirError, DataError, DataNotFound, SearchError]
    checkpoints = sys.modules.get("at2po_agent.training.checkpoints")  # it loads torch; not loaded, it raised nothing
    return (*known, gymnasium.error.Error, *([checkpoints.CheckpointError] if checkpoints else []))


if __name__ == "__main__":
    sys.exit(main())
