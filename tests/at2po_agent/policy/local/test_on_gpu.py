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


def test_bfloat16_samples_with_graphs_what_it_samples_without() -> None:
    found = []
    for cuda_graphs in (True, False):
        policy = LocalPolicy(tiny().to("cuda", torch.bfloat16), CODEC, cuda_graphs=cuda_graphs)
        try:
            found.append([completion.ids for completion in run(policy, requests(40))])
        finally:
            policy.close()
    # Padded rows may choose other kernels, so that here and there a token is another one.
    same = sum(graphs == plain for graphs, plain in zip(*found, strict=True))
    assert same >= 30
