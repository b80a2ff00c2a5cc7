"""The configuration of a training run: the sections of every room, composed, and the trainer's own.

``load_config`` lays YAML files over the defaults below and ``key=value`` overrides over both (OmegaConf, so
``${oc.env:NAME}`` works, but not for keys and passwords: a run stores every value).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from at2po_agent.config_files import Files, locate_all
from at2po_agent.environments import EnvConfig
from at2po_agent.method.algorithms import AlgorithmConfig
from at2po_agent.policy.engine import EngineConfig
from at2po_agent.policy.loading import PolicyConfig, refuse_endpoint
from at2po_agent.policy.lora import LoraConfig
from at2po_agent.rollouts.batch import RolloutConfig
from at2po_agent.settings import at_least, load
from at2po_agent.update.schedule import UpdateConfig


@dataclass(frozen=True)
class Spent:
    """The cost of training so far, without evaluation and loading."""

    steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # of all processors and processes of the trainer; not of servers that it samples on
    tokens: int = 0  # generated
    calls: int = 0  # turns that the environment answered: searches, tool calls; those that paths share count once


@dataclass(frozen=True)
class TrainLimits:
    """Limits of training: it ends after the step that reaches the first of these, or on a collapse."""

    steps: int = at_least(240, 0)  # training steps, each of ceil(questions / mini_batch) optimiser steps per epoch
    max_seconds: float | None = at_least(None, 0)  # seconds of training, without evaluation and loading
    max_cpu_seconds: float | None = at_least(None, 0)  # processor seconds of training, over all processors
    max_tokens: int | None = at_least(None, 0)  # tokens generated in training
    max_calls: int | None = at_least(None, 0)  # searches and tool calls in training
    staleness: Literal[0, 1] = 0  # 1: the next step's trees are sampled while this one's update is computed
    stop_on_collapse: bool = False  # stop with a checkpoint and exit code 1 when collapse.SYMPTOMS begin

    def reached(self, spent: Spent) -> str | None:
        """The name of the limit that ``spent`` has reached, steps last; None where training goes on."""
        amounts = asdict(spent)
        limits = {name: getattr(self, f"max_{name}") for name in amounts if name != "steps"} | {"steps": self.steps}
        hit = [name for name, limit in limits.items() if limit is not None and amounts[name] >= limit]
        return hit[0] if hit else None


@dataclass(frozen=True)
class EvalConfig:
    """Greedy evaluation on questions that are never trained on."""

    split: str = "dev"  # which questions
    questions: int = at_least(500, 0)  # how many, from the first of the split; 0 turns evaluation off
    every: int = at_least(20, 0)  # steps between evaluations; 0: only at the start and the end
    at_start: bool = True  # evaluate before the first step
    at_end: bool = True  # evaluate after the last step
    batch: int = at_least(256, 1)  # episodes that run together
    kwargs: dict[str, Any] = field(default_factory=dict)  # arguments that override env.kwargs


@dataclass(frozen=True)
class CheckpointConfig:
    """How often checkpoints are written. A last one is always written when a run stops."""

    every: int = at_least(20, 0)  # steps between checkpoints; 0: only when the run stops
    keep: int = at_least(2, 1)  # how many of the last checkpoints to keep


@dataclass(frozen=True)
class LogConfig:
    """Settings of logging besides metrics.jsonl."""

    trees_every: int = at_least(1, 0)  # steps between stored trees, those of step 1 too; 1 stores all, 0 none
    tensorboard: bool = False  # write event files into the run directory
    wandb_project: str | None = None  # log to this W&B project; a resumed run continues the same W&B run
    examples_every: int = at_least(20, 0)  # steps between trees sent to TensorBoard and W&B as text; 0: none

    def stores_trees(self, step: int) -> bool:
        """Whether the trees of a step, counted from 1, are stored."""
        return bool(self.trees_every and (step == 1 or step % self.trees_every == 0))


@dataclass(frozen=True)
class TrainConfig:
    """The root of a training configuration. The numbers are those of the paper's runs."""

    name: str = "at2po"  # name of the run, and the beginning of its directory's name
    run_dir: str | None = None  # directory of the run; default: runs/NAME-TIMESTAMP
    seed: int = at_least(0, 0)  # seed of the questions, of sampling and of everything else that is random
    deterministic: bool = (
        True  # make runs repeat bit for bit; false: paths continue as soon as they can, which is faster
    )
    processes: int = at_least(1, 1)  # processes that the command trains with on the CPUs of one host
    threads: int = at_least(0, 0)  # threads of torch in each process; 0: one per core
    env: EnvConfig = field(default_factory=EnvConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    train: TrainLimits = field(default_factory=TrainLimits)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)


def load_config(files: Files = None, overrides: Sequence[str] = ()) -> TrainConfig:
    """The defaults, then the YAML files in order, then ``key=value`` overrides.

    A file is a path or the name of a packaged configuration. A run that is composed of several, none of which has a
    ``name``, is named after them: ``qwen3-4b_multi-hop_at2po``.

    Raises:
        ConfigError: see ``settings.load``.
        PolicyError: the policy is the address of an endpoint.
    """
    paths = locate_all(files)
    composed = {"name": "_".join(path.stem for path in paths)} if len(paths) > 1 else {}
    config = load(TrainConfig, paths, overrides, composed)
    refuse_endpoint(config.policy.path)
    return config
