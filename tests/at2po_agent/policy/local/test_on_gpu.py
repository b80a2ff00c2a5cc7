"""Captured decode steps on a GPU."""

from __future__ import annotations

import pytest
import torch

from at2po_agent.policy.base import Sampling
from at2po_agent.policy.local.policy import LocalPolicy
from tests.helpers.tiny_models import CODEC, assert_same, reference, requests, run, tiny

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.0, stop=("e",))])
def test_turns_are_those_of_plain_forwards(sampling: Sampling) -> None:
    asked = requests(9)
    expected = [reference(tiny(), request, sampling) for request in asked]
    policy = LocalPolicy(tiny().to("cuda"), CODEC)
    try:
        for _ in range(2):
            assert_same(run(policy, asked, sampling), expected)
            policy.clear_cache()
    finally:
        policy.close()


def test_bfloat16_gives_turns_of_the_whole_length() -> None:
    policy = LocalPolicy(tiny().to("cuda", torch.bfloat16), CODEC)
    try:
        assert all(len(completion.ids) >= 1 for completion in run(policy, requests(40)))
    finally:
        policy.close()
