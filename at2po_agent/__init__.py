"""Train and judge search agents with AT²PO and its rivals.

::

    import at2po_agent as at2po
    result = at2po.train(at2po.load_config("run.yaml", ["train.steps=10"]))

``examples/sdk.py`` does by hand what ``train`` does. Everything that a notebook needs is a name of this package, loaded
on its first use; the rest stands in the rooms:

method      the paper: tree, expansion, credit, objective; your own algorithm is a line in ``method/algorithms.py``
policy      what samples turns of token ids: the local engine, SGLang's servers, the codec; your own has ``generate``
rollouts    trees and episodes: ``grow`` one tree, ``rollout`` many, ``evaluate`` greedily
update      one step of the weights: packing, tree attention, log-probabilities, several processes
training    the loop over all of these, its configuration, run directory and checkpoints
warmstart   a starting policy that imitates a scripted searcher
planning    whether a task is fit to learn from, and whether a run fits into memory
judge       evaluation of models at endpoints or here, and what is made of its results
study       training runs at equal cost: variants and seeds side by side, and the audit of credit
integrations  our tasks in evaluation suites of others, the method in other trainers
commands    ``at2po-agent``: one file for each verb; a verb of your own is a file there, listed in ``main``

An environment of your own is a Gymnasium id (``examples/own_task.py``) that ``env.imports`` registers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "ATPO": "method.objective",
    "Actor": "rollouts.grow",
    "AgentError": "errors",
    "Algorithm": "method.algorithms",
    "AlgorithmConfig": "method.algorithms",
    "Codec": "policy.codec",
    "Credited": "update.packing",
    "Display": "training.display",
    "LocalPolicy": "policy.local.policy",
    "LossInputs": "method.objective",
    "SGLangPolicy": "policy.sglang.policy",
    "TurnTree": "method.tree",
    "UpdateConfig": "update.schedule",
    "Updater": "update.updater",
    "atrain": "training.trainer",
    "build": "method.algorithms",
    "draw_tree": "judge.view.tree_svg",
    "evaluate": "rollouts.evaluate",
    "grow": "rollouts.grow",
    "load_config": "training.config",
    "render_tree": "training.stored_trees",
    "rollout": "rollouts.batch",
    "run": "tasks",
    "train": "training.trainer",
}
__all__ = [*_HOMES, "__version__"]

if TYPE_CHECKING:
    from at2po_agent.errors import AgentError as AgentError
    from at2po_agent.judge.view.tree_svg import draw_tree as draw_tree
    from at2po_agent.method.algorithms import Algorithm as Algorithm
    from at2po_agent.method.algorithms import AlgorithmConfig as AlgorithmConfig
    from at2po_agent.method.algorithms import build as build
    from at2po_agent.method.objective import ATPO as ATPO
    from at2po_agent.method.objective import LossInputs as LossInputs
    from at2po_agent.method.tree import TurnTree as TurnTree
    from at2po_agent.policy.codec import Codec as Codec
    from at2po_agent.policy.local.policy import LocalPolicy as LocalPolicy
    from at2po_agent.policy.sglang.policy import SGLangPolicy as SGLangPolicy
    from at2po_agent.rollouts.batch import rollout as rollout
    from at2po_agent.rollouts.evaluate import evaluate as evaluate
    from at2po_agent.rollouts.grow import Actor as Actor
    from at2po_agent.rollouts.grow import grow as grow
    from at2po_agent.tasks import run as run
    from at2po_agent.training.config import load_config as load_config
    from at2po_agent.training.display import Display as Display
    from at2po_agent.training.stored_trees import render_tree as render_tree
    from at2po_agent.training.trainer import atrain as atrain
    from at2po_agent.training.trainer import train as train
    from at2po_agent.update.packing import Credited as Credited
    from at2po_agent.update.schedule import UpdateConfig as UpdateConfig
    from at2po_agent.update.updater import Updater as Updater


def __getattr__(name: str) -> Any:
    """Import a public name from its room when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
