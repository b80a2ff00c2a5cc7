"""Which settings of an engine decide where weights are read."""

import pytest

from at2po_agent.policy.engine import EngineConfig


@pytest.mark.parametrize(
    ("config", "reads_host_memory"),
    [
        (EngineConfig(), False),  # the module itself
        (EngineConfig(sync="tensors"), False),  # a setting of servers alone
        (EngineConfig(kind="sglang"), True),
        (EngineConfig(kind="sglang", sync="tensors"), True),
        (EngineConfig(kind="sglang", sync="distributed"), False),  # from GPU to GPU
    ],
)
def test_where_weights_are_read(config: EngineConfig, reads_host_memory: bool) -> None:
    assert config.reads_host_memory == reads_host_memory
