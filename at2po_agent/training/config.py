"""Everything a training run can be told, as frozen dataclasses.

``load_config`` lays a YAML file over the defaults below and ``key=value`` overrides over both (OmegaConf, so
``${oc.env:NAME}`` works).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import MISSING

from at2po_agent.environments import EnvConfig
from at2po_agent.policy.engine import EngineConfig
from at2po_agent.policy.loading import refuse_endpoint
from at2po_agent.rollouts.grow import Limits, TokenLimits
from at2po_agent.settings import above, at_least, load
from at2po_agent.update.schedule import UpdateConfig


@dataclass(frozen=True)
class PolicyConfig:
    """Which model is trained, and how it is held."""

    path: str = MISSING  # builtin:NAME or a Hugging Face model directory
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (LoRA, arXiv 2106.09685) that are trained in place of the weights."""

    rank: int = at_least(0, 0)  # 0: none, all weights are trained
    alpha: float = above(32.0, 0)  # what they add is scaled by alpha / rank
    targets: tuple[str, ...] = ("all-linear",)  # or names of linear layers, such as q_proj


@dataclass(frozen=True)
class RolloutConfig(TokenLimits):
    """How trees are grown."""

    questions: int = at_least(64, 1)  # per step, one tree each
    temperature: float = above(1.0, 0)  # the log-probabilities that training uses are of this distribution
    tokens: Literal["exact", "retokenise"] = "exact"  # retokenise: the policy reads re-encoded text, to see the cost
    # Of a turn whose search or engine failed, from its snapshot; then its path is pruned.
    retries: int = at_least(10, 0)
    retry_seconds: float = at_least(2.0, 0)  # before the first retry; doubles each time, up to 15: two minutes in all
    max_batch: int = at_least(256, 1)  # requests that the engine runs together

    def limits(self, max_context_tokens: int | None) -> Limits:
        """The limits of the rollouts of a model with this context."""
        return Limits(
            max_prompt_tokens=self.max_prompt_tokens,
            max_response_tokens=self.max_response_tokens,
            max_turn_tokens=self.max_turn_tokens,
            max_context_tokens=max_context_tokens,
            retries=self.retries,
            retry_seconds=self.retry_seconds,
        )


@dataclass(frozen=True)
class AlgorithmConfig:
    """A named composition, and what is changed about its components."""

    name: str = "at2po"
    expansion: dict[str, Any] = field(default_factory=dict)
    credit: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)  # which groups of a step are trained on
    shaping: dict[str, Any] = field(default_factory=dict)  # of the rewards, before credit


@dataclass(frozen=True)
class TrainLimits:
    """When training ends: at whichever limit comes first."""

    steps: int = at_least(240, 0)  # rollout batches, each ceil(questions / mini_batch) optimiser steps an epoch
    max_seconds: float | None = at_least(None, 0)  # of training itself; evaluation and loading are not counted
    max_tokens: int | None = at_least(None, 0)  # generated in training; the step that passes it is finished


@dataclass(frozen=True)
class EvalConfig:
    """Greedy evaluation on questions that are never trained on."""

    split: str = "dev"
    questions: int = at_least(500, 0)  # the first of the split; 0 turns evaluation off
    every: int = at_least(20, 0)  # steps; 0: only at the start and the end
    at_start: bool = True
    at_end: bool = True
    batch: int = at_least(256, 1)  # episodes that run together
    kwargs: dict[str, Any] = field(default_factory=dict)  # laid over env.kwargs


@dataclass(frozen=True)
class CheckpointConfig:
    """How often everything is written down. A last checkpoint is always written when a run stops."""

    every: int = at_least(20, 0)  # steps; 0: only when the run stops
    keep: int = at_least(2, 1)


@dataclass(frozen=True)
class LogConfig:
    """What is recorded besides metrics.jsonl."""

    trees_every: int = at_least(1, 0)  # steps between stored rollouts: 1 keeps every tree, 0 none
    tensorboard: bool = False
    wandb_project: str | None = None


@dataclass(frozen=True)
class TrainConfig:
    """The root of a training configuration. The numbers are those of the paper's runs."""

    name: str = "at2po"
    run_dir: str | None = None  # default: runs/NAME-TIMESTAMP
    seed: int = at_least(0, 0)
    deterministic: bool = True
    threads: int = at_least(0, 0)  # of torch; 0: every core
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


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """Defaults, then the YAML file, then ``key=value`` overrides.

    Raises:
        ConfigError: see ``settings.load``.
        PolicyError: the policy is the address of an endpoint.
    """
    config = load(TrainConfig, path, overrides)
    refuse_endpoint(config.policy.path)
    return config
