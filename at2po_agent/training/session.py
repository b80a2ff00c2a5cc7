"""Open a run's environments, trained model, engine and algorithm from its configuration."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from at2po_agent.environments import make_env
from at2po_agent.method.algorithms import Algorithm
from at2po_agent.policy.architecture import positions, read_config
from at2po_agent.policy.base import Sampling
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.engine import Engine
from at2po_agent.policy.loading import load_model, resolve_policy
from at2po_agent.policy.lora import add_lora
from at2po_agent.policy.retokenised import Retokenised
from at2po_agent.provenance import describe_code
from at2po_agent.rollouts.batch import RolloutConfig
from at2po_agent.rollouts.grow import Actor
from at2po_agent.rollouts.outages import Outages
from at2po_agent.training.config import TrainConfig
from at2po_agent.training.engines import open_engine
from at2po_agent.training.validation import validate
from at2po_agent.update.processes import ONE, Processes
from at2po_agent.update.trainable import refuse_untrainable
from at2po_env.tasks import TaskEnv
from search_backend.components import described

PACKAGES = ("gymnasium", "numpy", "omegaconf", "tantivy", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class Session:
    """Everything that a training run shares between its steps."""

    env: TaskEnv[Any]
    eval_env: TaskEnv[Any]
    model: PreTrainedModel  # the policy that is trained, whole
    codec: Codec  # its tokenizer
    engine: Engine  # samples with the model's weights, for this process's share
    algorithm: Algorithm
    actor: Actor  # the engine as it acts in episodes; evaluations take it greedily, rollouts as ``sampler`` has it
    reference: PreTrainedModel | None  # of the KL term, if any: a frozen copy, or the model where it has adapters
    device: torch.device  # where the update is computed
    processes: int = 1  # that have such a session each

    def sampler(self, rollout: RolloutConfig) -> Actor:
        """The actor that samples trees; it reads re-encoded histories where ``rollout.tokens`` is ``retokenise``."""
        if rollout.tokens == "retokenise":
            return replace(self.actor, policy=Retokenised(self.actor.policy, self.codec))
        return self.actor

    def manifest(self) -> dict[str, Any]:
        """Everything that decides a run's results besides its configuration: data, index, dialect, versions, code."""
        return {
            "env": self.env.manifest(),
            "eval_env": self.eval_env.manifest(),
            "policy": {
                "codec": self.codec.digest,
                "parameters": self.model.num_parameters(),
                "trained": self.model.num_parameters(only_trainable=True),
            },
            "machine": {
                "cpu": platform.processor() or platform.machine(),
                "processes": self.processes,
                "torch_threads": torch.get_num_threads(),
            },
            **describe_code(PACKAGES),
            **described(self.algorithm.origins()),
        }

    def tape_position(self) -> int | None:
        """Bytes of recorded search results that training has used so far; None where no tape is used."""
        return self.env.tape_position()

    def close(self) -> None:
        """Stop the engine and release the indexes."""
        self.engine.close()
        self.env.close()
        self.eval_env.close()


def open_session(
    config: TrainConfig,
    folder: Path = Path("engine"),
    note: Callable[[str], None] = lambda text: None,
    processes: Processes = ONE,
    algorithm: Algorithm | None = None,
) -> Session:
    """Open environments, policy, algorithm and engine; what can be wrong with them is said here, before any work.

    Args:
        config: of the run.
        folder: where an engine in other processes keeps its logs, and weights on their way to it; made when needed.
        note: told about what takes long, and about a search or an engine that does not answer.
        processes: those that open one each.
        algorithm: what ``config.algorithm`` describes; made of that where it is not given.

    Raises:
        ConfigError: the environment is unknown or cannot be trained on, or a component's settings are wrong.
        PolicyError: there is no such policy, or the engine cannot be used.
        DataNotFound: the benchmark's data is not installed.
    """
    algorithm = validate(config, algorithm)
    refuse_untrainable(read_config(resolve_policy(config.policy.path)))
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(config.deterministic)
    transformers.utils.logging.disable_progress_bar()  # the display has its own
    env = make_env(config.env.id, config.env.split, config.env.arguments)
    eval_env = make_env(config.env.id, config.eval.split, {**config.env.arguments, **config.eval.kwargs})
    rollout = config.rollout
    model, codec = load_model(config.policy)
    device = model.device
    is_split = config.update.splits(processes.count)
    if is_split and config.engine.reads_host_memory:
        model = model.to("cpu")  # the whole one is sent from there, and trained is a copy that all processes share
    limits = rollout.limits(positions(model))
    algorithm = algorithm.opened(vocab_size=codec.vocab_size, max_response_tokens=limits.max_response_tokens)
    if config.lora.rank:
        add_lora(model, config.lora, config.seed)
    reference = _reference(config, model) if algorithm.objective.kl_coef else None
    if reference is not None and reference is not model and is_split:
        reference = reference.to("cpu")  # likewise
    engine = open_engine(config, model, codec, folder, note, processes)
    actor = Actor(engine, codec, Sampling(rollout.temperature), limits, config.deterministic, Outages(note))
    return Session(env, eval_env, model, codec, engine, algorithm, actor, reference, device, processes.count)


def _reference(config: TrainConfig, model: PreTrainedModel) -> PreTrainedModel:
    """The starting policy: without its adapters the model is that itself, and needs no copy."""
    return model if config.lora.rank else load_model(config.policy)[0].requires_grad_(False)
