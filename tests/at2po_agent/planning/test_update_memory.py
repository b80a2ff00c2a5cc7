"""The traced memory of an update against the resident memory of a real one, in a process of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from transformers import Qwen3Config

from at2po_agent.planning.update_memory import activation_bytes, micro_batch, star
from benchmarks.update_memory import SIZES, WAYS, measured, traced

PLAIN = WAYS["layers kept"]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_an_update_takes_what_was_traced(way: str) -> None:
    """Within 10 %: of what tensors take, not of what glibc keeps for later."""
    assert measured(way) == pytest.approx(traced(way), rel=0.1)


def test_layers_are_alike_so_two_of_them_tell_about_all() -> None:
    batch = micro_batch([star(100, 4, 600)])
    sizes = [activation_bytes(replace(PLAIN, sizes=_with_layers(n)), batch) for n in (2, 3, 6)]
    assert sizes[1] - sizes[0] == (sizes[2] - sizes[1]) / 3 > 0


def _with_layers(n: int) -> Any:
    return Qwen3Config.from_dict(SIZES.to_dict() | {"num_hidden_layers": n, "layer_types": None})


def test_a_star_has_the_tokens_that_were_asked_for() -> None:
    batch = micro_batch([star(500, 8, 6000)])
    assert abs(len(batch.ids) - 6000) <= 8
    assert int(batch.positions.max()) == 500 + (6000 - 500) // 8 - 1
