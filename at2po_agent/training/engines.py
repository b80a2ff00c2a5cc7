"""Open the engine that a run's configuration names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from at2po_agent.policy.base import CausalLM
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.engine import Engine, EngineConfig
from at2po_agent.policy.loading import resolve_policy
from at2po_agent.policy.local.policy import LocalPolicy
from at2po_agent.training.config import TrainConfig
from at2po_agent.update.processes import ONE, Processes

if TYPE_CHECKING:
    from at2po_agent.policy.sglang.weight_sync import WeightSync


def open_engine(
    config: TrainConfig,
    model: CausalLM,
    codec: Codec,
    folder: Path,
    note: Callable[[str], None] = lambda text: None,
    processes: Processes = ONE,
) -> Engine:
    """The engine of ``config.engine``, with the weights of ``model`` as version 0.

    Args:
        config: of the run; ``validate`` has checked it.
        model: the policy that is trained, on its device.
        codec: its tokenizer.
        folder: for logs of servers, and weights on their way to them.
        note: told about what takes long, and about servers that go and come back.
        processes: those of the run, which open an engine each; the first one starts servers and sends them weights.

    Raises:
        PolicyError: the engine cannot be started or reached, or cannot be trained with.
    """
    if config.engine.kind == "local":
        return LocalPolicy(
            model,
            codec,
            max_batch=config.rollout.max_batch,
            deterministic=config.deterministic,
            cuda_graphs=config.engine.cuda_graphs,
        )
    return _open_sglang(config, model, codec, folder, note, processes)


def _open_sglang(
    config: TrainConfig,
    model: CausalLM,
    codec: Codec,
    folder: Path,
    note: Callable[[str], None],
    processes: Processes,
) -> Engine:
    from at2po_agent.policy.sglang.engine import SGLangEngine
    from at2po_agent.policy.sglang.launch import RunningServers, Servers
    from at2po_agent.policy.sglang.publisher import Publisher

    engine, publisher = config.engine, None
    if processes.leads:
        sync = _sync(engine, folder)
        servers = RunningServers(engine.urls, note)
        if not engine.urls:
            servers = Servers(engine.launch, resolve_policy(config.policy.path), folder, note)
        publisher = Publisher(servers, model, sync, engine)
    return SGLangEngine(model, codec, publisher, engine, config.rollout.max_batch, processes.lead)


def _sync(engine: EngineConfig, folder: Path) -> WeightSync:
    from at2po_agent.policy.sglang.weight_sync import DiskSync, DistributedSync, TensorSync

    if engine.sync == "disk":
        return DiskSync(folder / "weights")
    return TensorSync() if engine.sync == "tensors" else DistributedSync(engine.sync_address)
