"""Check a training configuration as a whole, before anything is loaded or written."""

from __future__ import annotations

import importlib.util

from at2po_agent.environments import check_env_id, import_tasks
from at2po_agent.method import algorithms
from at2po_agent.method.algorithms import Algorithm
from at2po_agent.policy.engine import EngineConfig
from at2po_agent.policy.loading import resolve_policy
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import TrainConfig


def validate(config: TrainConfig, algorithm: Algorithm | None = None) -> Algorithm:
    """Check that everything a configuration names exists, and that its settings go together; this needs no torch.

    Args:
        config: of a run.
        algorithm: what ``config.algorithm`` describes, where it is there already.

    Returns:
        The algorithm, else made of the configuration.

    Raises:
        ConfigError: an environment, algorithm or component that is not known, a package that is not installed, or
            settings that contradict each other.
        PolicyError: there is no such policy.
    """
    algorithm = algorithm or algorithms.build(**vars(config.algorithm))
    import_tasks(config.env.imports)
    check_env_id(config.env.id)
    resolve_policy(config.policy.path)
    if config.train.staleness:
        _check_staleness(config)
    _check_engine(config.engine, config.deterministic)
    optional = (
        ("lora.rank", config.lora.rank, "peft", "lora"),
        ("log.tensorboard", config.log.tensorboard, "tensorboard", "tensorboard"),
        ("log.wandb_project", config.log.wandb_project, "wandb", "wandb"),
    )
    for key, value, package, extra in optional:
        if value and importlib.util.find_spec(package) is None:
            raise ConfigError(f"{key} needs the package {package}: pip install 'at2po[{extra}]', or leave {key} out")
    return algorithm


def _check_engine(engine: EngineConfig, deterministic: bool) -> None:
    if engine.kind != "sglang":
        return
    if deterministic:
        raise ConfigError(
            "engine.kind=sglang cannot repeat a run bit for bit, because a server's results depend on the other "
            "requests that it handles: set deterministic=false"
        )
    if engine.router and not engine.urls:
        raise ConfigError("engine.router needs engine.urls: the servers behind it, which receive the weights")


def _check_staleness(config: TrainConfig) -> None:
    """Refuse what cannot sample while the weights are updated."""
    engine = config.engine
    refused = {
        "deterministic=true, as what is sampled beside an update depends on time: set deterministic=false": (
            config.deterministic
        ),
        "engine.kind=local, which samples with the very weights that the update changes: set engine.kind=sglang": (
            engine.kind == "local"
        ),
        "engine.release_memory, as servers need their memory to sample during the update: leave that out": (
            engine.release_memory
        ),
        "engine.sync=distributed, which has no copy of the weights for a server that comes back during an update: set "
        "engine.sync to disk or tensors": engine.sync == "distributed",
        "update.old_logprobs=recompute, as the weights that sampled are gone when the update begins: set "
        "update.old_logprobs=rollout": config.update.old_logprobs == "recompute",
    }
    for why, holds in refused.items():
        if holds:
            raise ConfigError(f"train.staleness=1 cannot be combined with {why}, or set train.staleness=0")
