"""A server's device, by hand: Qwen3-8B in half precision is 15.3 GiB, and a token 144 KiB."""

from __future__ import annotations

from typing import Any

import pytest

from at2po_agent.planning.model_sizes import read_sizes
from at2po_agent.planning.server_memory import Server, of_server
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import load_config

GIB = 2**30
SIZES, _ = read_sizes("Qwen3-8B")
PARAMETERS = 8_190_735_360


def server(arguments: str, *overrides: str, path: int = 8192) -> Server:
    base = ["policy.path=builtin:microwiki", "env.id=AT2PO-MicroWiki-v0", "engine.kind=sglang"]
    config = load_config(None, [*base, f"engine.launch.arguments=[{arguments}]", *overrides])
    found = of_server(config, SIZES, path, memory=80 * GIB)
    assert found is not None
    return found


def test_what_the_weights_leave_is_for_keys_and_values() -> None:
    found = server('--mem-fraction-static, "0.5"')
    assert (found.weights, found.share, found.per_token) == (2 * PARAMETERS, 40 * GIB, 147_456)
    assert found.tokens == (40 * GIB - 2 * PARAMETERS) // 147_456 and found.refusal is None


def test_gpus_that_hold_a_server_together_split_it() -> None:
    found = server('--tp-size=4, --mem-fraction-static, "0.5", --dtype, float32')
    assert (found.weights, found.per_token) == (PARAMETERS, 147_456 // 2)  # four bytes over four


def test_a_server_without_room_for_one_path_is_refused_with_what_to_change() -> None:
    refusal = server('--mem-fraction-static, "0.2"').refusal
    assert refusal and "16.0 GiB" in refusal and "15.3 GiB" in refusal and "--tp-size" in refusal
    assert "one path can have 8,192" in refusal


@pytest.mark.parametrize(("overrides", "shares"), [((), False), (("engine.release_memory=true",), True)])
def test_a_server_that_releases_its_memory_is_on_the_trainers_device(overrides: Any, shares: bool) -> None:
    found = server("", *overrides)
    assert found.shares_device == shares
    assert found.remedy(30 * GIB) == "--mem-fraction-static 0.62 leaves room for the trainer"


def test_a_fraction_that_is_no_number_is_named() -> None:
    with pytest.raises(ConfigError, match=r"engine\.launch\.arguments: --mem-fraction-static is 'half'"):
        server("--mem-fraction-static, half")
