"""``at2po-agent gates``: measure whether an environment is worth training on."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING, Any

from at2po_agent.commands.options import add_imports, complete, env_words
from at2po_agent.terminal import say

if TYPE_CHECKING:
    from at2po_agent.policy.loading import Device
    from at2po_agent.rollouts.evaluate import Episode
    from at2po_agent.training.config import TrainConfig

_TELL_EVERY = 100  # tasks that a policy has played


def add_parser(commands: Any) -> None:
    """Add ``gates`` to the subparsers of the command."""
    parser = commands.add_parser("gates", help="measure whether an environment is worth training on")
    which = "a Gymnasium id, e.g. AT2PO-MicroWiki-v0"
    complete(parser.add_argument("env", metavar="ENV_ID", help=which), env_words)
    parser.add_argument("--policy", metavar="PATH", help="measure this policy too, e.g. builtin:microwiki")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the policy runs (auto)"
    )
    add_imports(parser)
    what = "questions=500, split=test, or anything that gymnasium.make is to pass on"
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=what)
    parser.set_defaults(command=_gates)


def _gates(arguments: argparse.Namespace) -> int:
    from at2po_agent.settings import read_overrides
    from at2po_agent.terminal import SafeConsole

    kwargs = read_overrides(arguments.overrides)

    from at2po_agent.environments import check_env_id, import_tasks
    from at2po_agent.planning.gates import gates

    import_tasks(arguments.imports)
    check_env_id(arguments.env)
    if arguments.policy:
        kwargs["policy"] = _policy_scores(arguments.env, arguments.policy, arguments.device, kwargs)
    report = gates(arguments.env, **kwargs)
    console = SafeConsole()
    wide = None if console.is_terminal else 160  # a file or a pipe has no width of its own
    console.print(report.to_table(), width=wide)
    return 0 if report.passed else 1


def _policy_scores(
    env_id: str, policy: str, device: Device, kwargs: Mapping[str, Any]
) -> Callable[[Sequence[str]], Mapping[str, float]]:
    """The first metric of a policy that plays greedily, task by task, on the split that the gates are measured on."""
    from at2po_agent.environments import EnvConfig
    from at2po_agent.policy.loading import PolicyConfig
    from at2po_agent.terminal import say_loading
    from at2po_agent.training.config import EvalConfig, TrainConfig
    from at2po_agent.training.validation import validate

    passed_on = {key: value for key, value in kwargs.items() if key not in ("split", "fit_split", "questions")}
    split = kwargs.get("split", "test")
    config = TrainConfig(
        env=EnvConfig(env_id, split, passed_on),
        policy=PolicyConfig(policy, device=device),
        eval=EvalConfig(split=split),
    )
    validate(config)
    say_loading(policy)
    return lambda ids: _scores(config, ids)


def _scores(config: TrainConfig, ids: Sequence[str]) -> dict[str, float]:
    from at2po_agent.rollouts.evaluate import evaluate
    from at2po_agent.tasks import run
    from at2po_agent.training.session import open_session

    with closing(open_session(config, note=lambda line: say(line, error=True))) as session:
        played = count(1)

        def tell(episode: Episode) -> None:
            if (number := next(played)) % _TELL_EVERY == 0:
                say(f"the policy has played {number} of {len(ids)} tasks", error=True, progress=True)

        evaluation = run(evaluate(session.eval_env, ids, session.actor.greedy(), on_episode=tell))
        first = session.eval_env.metrics[0].name
    return {episode.question_id: episode.metrics[first] for episode in evaluation.episodes}
