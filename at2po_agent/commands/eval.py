"""``at2po-agent eval``: judge a model on environments."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from at2po_agent.commands.options import add_configuration, complete, env_words


def add_parser(commands: Any) -> None:
    """Add ``eval`` to the subparsers of the command."""
    parser = commands.add_parser("eval", help="judge a model on one, several or all benchmarks")
    add = parser.add_argument
    which = "Gymnasium id, benchmark, or group (multi-hop, single-hop, all); repeatable"
    complete(add("-e", "--env", dest="envs", action="append", metavar="ENV", help=which), env_words)
    add("-m", "--model", metavar="MODEL", help="name at the endpoint, alias, builtin:NAME, model directory or run")
    add("-b", "--base-url", metavar="URL", help="address of an OpenAI-compatible endpoint, ending in /v1")
    add("-k", "--key-var", metavar="KEY_VAR", help="the environment variable with the endpoint's key")
    add("-n", "--questions", type=int, metavar="N", help="use the first N of the split; default: all")
    add("-r", "--samples", type=int, metavar="R", help="episodes per question; default: 1")
    add("-c", "--concurrency", type=int, metavar="C", help="episodes at a time; default: 64")
    add("-T", "--temperature", type=float, metavar="T", help="default: 0, greedy")
    add("--seed", type=int, metavar="S", help="seed of sampling; default: 0")
    add("--split", metavar="SPLIT", help="default: test if the benchmark has one, else dev")
    add("--search", metavar="URI", help="where to search; default: the passages that come with the questions")
    add("--wait", type=float, metavar="SECONDS", help="wait for an endpoint that is still starting; default: 10")
    tree = "compare AT2PO's tree with chains at equal generated tokens for every question; -T 1 unless given"
    add("--tree", action="store_true", help=tree)
    resume = "continue RUN; without RUN, the newest evaluation of the same model, if there is one"
    add("--resume", nargs="?", const="", metavar="RUN", help=resume)
    add("--start", action="store_true", help="with -m RUN: also evaluate its starting policy, and compare")
    add("--dry-run", action="store_true", help="print plan, first prompt and an upper bound on tokens; send nothing")
    add_configuration(parser, example="env.k=5 limits.max_turn_tokens=4096")
    parser.set_defaults(command=_eval)


_KEYS = {
    "envs": "envs",
    "model": "model.name",
    "base_url": "model.base_url",
    "key_var": "model.key_var",
    "questions": "questions",
    "samples": "samples",
    "concurrency": "concurrency",
    "temperature": "temperature",
    "seed": "seed",
    "split": "split",
    "search": "search",
    "wait": "limits.wait_seconds",
}


def _eval(arguments: argparse.Namespace) -> int:
    from at2po_agent.errors import ConfigError
    from at2po_agent.judge.evaluation import evaluate_all, go_on
    from at2po_agent.judge.resolve import load_resolved
    from at2po_agent.judge.results.directory import read_config
    from at2po_agent.settings import to_yaml
    from at2po_agent.terminal import say

    given = {key: getattr(arguments, name) for name, key in _KEYS.items() if getattr(arguments, name) is not None}
    overrides = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items()]
    if arguments.tree:
        overrides = ["tree=true", "temperature=1.0", *overrides]
    overrides += arguments.overrides
    if "=" in (arguments.resume or "") and not Path(arguments.resume).exists():  # --resume key=value
        overrides.append(arguments.resume)
        arguments.resume = ""
    if arguments.print_config:
        config = (
            read_config(Path(arguments.resume), overrides)
            if arguments.resume
            else load_resolved(arguments.cfg, overrides)
        )
        say(to_yaml(config).rstrip("\n"))
        return 0
    if arguments.resume:
        if arguments.start:
            raise ConfigError(
                "--start needs -m RUN and cannot be combined with --resume, which continues a single evaluation"
            )
        return go_on(Path(arguments.resume), overrides, dry_run=arguments.dry_run)
    return evaluate_all(
        arguments.cfg,
        overrides,
        resume=arguments.resume is not None,
        dry_run=arguments.dry_run,
        start=arguments.start,
    )
