"""Captured decode steps with the capture left out: the same shapes, fixed inputs and padding, run by PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from at2po_agent.policy.base import Request, Sampling
from at2po_agent.policy.local.captured import CapturedSteps
from at2po_agent.policy.local.policy import LocalPolicy
from at2po_agent.policy.local.sampler import Drawn
from tests.helpers.tiny_models import ARCHITECTURES, CODEC, assert_same, prompts, reference, requests, run, tiny

Run = Callable[[], Drawn]


class Capture:
    """Counts what it is given; as a graph does, it writes what is drawn to one place."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, run: Run) -> Run:
        self.count += 1
        place = Drawn(*(states.clone() for states in run()))

        def replay() -> Drawn:
            for fixed, states in zip(place, run(), strict=True):
                fixed.copy_(states)
            return place

        return replay


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.0, stop=("e",)), Sampling(0.5, top_logprobs=3)])
def test_turns_are_those_of_plain_forwards(architecture: str, sampling: Sampling) -> None:
    capture = Capture()
    policy = LocalPolicy(tiny(architecture), CODEC, capture=capture)
    try:
        asked = requests(9)
        found = run(policy, asked, sampling)
        assert_same(found, [reference(policy.model, request, sampling) for request in asked])
        assert [len(c.top_logprobs) for c in found] == [len(c.ids) if sampling.top_logprobs else 0 for c in found]
    finally:
        policy.close()
    assert capture.count >= 1


def test_rows_of_one_slot_part() -> None:
    policy = LocalPolicy(tiny(), CODEC, capture=Capture())
    asked = [Request(prompt, 10, (i, j)) for i, prompt in enumerate(prompts(3)) for j in range(7)]
    try:
        found = run(policy, asked, Sampling(0.3))
        assert_same(found, [reference(policy.model, request, Sampling(0.3)) for request in asked])
    finally:
        policy.close()


def test_one_shape_is_captured_once_and_weights_changed_in_place_are_used() -> None:
    capture, model = Capture(), tiny()
    policy = LocalPolicy(model, CODEC, capture=capture)
    asked = requests(4)
    try:
        run(policy, asked)
        once = capture.count
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.9)
        policy.publish(model, 1)
        assert_same(run(policy, asked), [reference(model, request, Sampling()) for request in asked])
        assert capture.count <= once + 1  # other turns may end at other steps
        run(policy, asked)
        twice = capture.count
        run(policy, asked)
        assert capture.count == twice
        # Weights at other addresses are no longer those that were captured.
        for parameter in model.parameters():
            parameter.data = parameter.data * 1.2
        policy.publish(model, 2)
        assert_same(run(policy, asked), [reference(model, request, Sampling()) for request in asked])
        assert capture.count > twice
    finally:
        policy.close()


def test_states_that_moved_are_captured_again() -> None:
    few = requests(2)
    many = few + [Request(prompt, 2, (9, i)) for i, prompt in enumerate(prompts(18))]

    def captured(*calls: list[Request]) -> int:
        capture = Capture()
        policy = LocalPolicy(tiny(), CODEC, capture=capture)
        try:
            for asked in calls:
                run(policy, asked)
        finally:
            policy.close()
        return capture.count

    # The end of the larger batch has the shape of the smaller one, whose graph reads states that are no more.
    assert captured(many) == 2
    assert captured(few, many) == captured(few) + captured(many)


def test_rooms_grow_in_few_steps() -> None:
    rooms = [CapturedSteps.room(slots, columns) for slots, columns in ((1, 1), (3, 256), (33, 257), (256, 900))]
    assert rooms == [(1, 256), (4, 256), (64, 512), (256, 1024)]


def test_a_model_that_something_was_put_into_is_not_captured() -> None:
    capture, model = Capture(), tiny()
    model.lm_head.register_forward_hook(lambda module, arguments, output: output)
    policy = LocalPolicy(model, CODEC, capture=capture)
    try:
        run(policy, requests(2))
    finally:
        policy.close()
    assert capture.count == 0
