"""The learning rate by hand, and the settings of an update that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from at2po_agent.settings import ConfigError
from at2po_agent.training.config import load_config
from at2po_agent.update.schedule import UpdateConfig, learning_rate


def test_the_learning_rate_follows_its_schedule() -> None:
    def rates(schedule: Any, warmup: int) -> list[float]:
        config = UpdateConfig(lr=1.0, schedule=schedule, warmup_steps=warmup)
        return [round(learning_rate(config, step, 6), 6) for step in range(7)]

    assert rates("constant", 0) == [1.0] * 7
    assert rates("constant", 4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]
    assert rates("linear", 2) == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    assert rates("cosine", 2) == [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447, 0.0]


def test_it_stays_at_its_end_after_the_last_step_and_follows_the_configured_rate() -> None:
    config = UpdateConfig(lr=0.02, schedule="cosine", warmup_steps=1)
    assert learning_rate(config, 100, 6) == 0.0
    assert learning_rate(config, 0, 6) == 0.02
    assert learning_rate(config, 1, 3) == 0.02  # half a cosine from 1 to 0 over two steps: 1, 1/2, 0
    assert learning_rate(config, 2, 3) == pytest.approx(0.01)
    assert learning_rate(UpdateConfig(lr=0.02, schedule="linear", warmup_steps=5), 5, 5) == 0.02  # warm-up alone


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("update.lr=-1", "update.lr"),
        ("update.mini_batch=0", "update.mini_batch"),
        ("update.schedule=steps", "update.schedule"),
        ("update.precision=float16", "update.precision"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, ["policy.path=p", "env.id=X-v0", override])
