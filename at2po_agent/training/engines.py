"""Opens the engine that a run's configuration asks for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from at2po_agent.policy.codec import Codec
from at2po_agent.policy.engine import Engine, EngineConfig, NoEngine
from at2po_agent.policy.loading import resolve_policy
from at2po_agent.policy.local.policy import LocalPolicy
from at2po_agent.training.config import TrainConfig
from at2po_agent.update.processes import ONE, Processes


def open_engine(
    config: TrainConfig,
    model: Any,
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
        processes: those of the run; the first one alone talks to servers.

    Raises:
        PolicyError: the engine cannot be started or reached, or cannot be trained with.
    """
    if config.engine.kind == "local":
        return LocalPolicy(model, codec, max_batch=config.rollout.max_batch, deterministic=config.deterministic)
    return _open_sglang(config, model, codec, folder, note) if processes.leads else NoEngine()


def _open_sglang(config: TrainConfig, model: Any, codec: Codec, folder: Path, note: Callable[[str], None]) -> Engine:
    from at2po_agent.policy.sglang.engine import SGLangEngine
    from at2po_agent.policy.sglang.launch import Servers

    engine = config.engine
    with ExitStack() as undo:
        started = None
        if not engine.urls:
            started = Servers(engine.launch, resolve_policy(config.policy.path), folder, note)
            undo.callback(started.close)
        opened = SGLangEngine(
            engine.urls if started is None else started.urls,
            model,
            codec,
            _sync(engine, folder),
            router=engine.router,
            started=started,
            release_memory=engine.release_memory,
            patience=engine.patience,
            timeout=engine.timeout,
            max_connections=config.rollout.max_batch,
            note=note,
        )
        undo.pop_all()
    return opened


def _sync(engine: EngineConfig, folder: Path) -> Any:
    from at2po_agent.policy.sglang.weight_sync import DiskSync, DistributedSync, TensorSync

    if engine.sync == "disk":
        return DiskSync(folder / "weights")
    return TensorSync() if engine.sync == "tensors" else DistributedSync(engine.sync_address)
