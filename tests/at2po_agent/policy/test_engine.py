"""Which engines a run has, and the one of a process that samples nothing."""

from __future__ import annotations

import asyncio

import pytest

from at2po_agent.policy.base import PolicyError, Request, Sampling
from at2po_agent.policy.engine import Engine, EngineConfig, NoEngine
from tests.helpers.tiny_models import tiny


@pytest.mark.parametrize(
    ("config", "serves_all", "reads_host_memory"),
    [
        (EngineConfig(), False, False),  # every process has its own, of the module itself
        (EngineConfig(sync="tensors"), False, False),  # a setting of servers alone
        (EngineConfig(kind="sglang"), True, True),
        (EngineConfig(kind="sglang", sync="tensors"), True, True),
        (EngineConfig(kind="sglang", sync="distributed"), True, False),  # from GPU to GPU
    ],
)
def test_which_processes_sample_and_where_weights_are_read(
    config: EngineConfig, serves_all: bool, reads_host_memory: bool
) -> None:
    assert (config.serves_all, config.reads_host_memory) == (serves_all, reads_host_memory)


def test_a_process_without_an_engine_follows_the_trainer_and_samples_nothing() -> None:
    engine: Engine = NoEngine()
    engine.release()
    engine.publish(tiny(), 3)
    engine.clear_cache()
    assert asyncio.run(engine.generate([], Sampling())) == []
    assert (engine.version, engine.stats.prompt_tokens, engine.stats.generated_tokens) == (0, 0, 0)
    with pytest.raises(PolicyError, match="the first process of the run samples for all"):
        asyncio.run(engine.generate([Request((1,), 1, (0,))], Sampling()))
    engine.close()
