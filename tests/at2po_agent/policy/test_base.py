"""Requests that no engine can run are refused by name."""

from __future__ import annotations

import pytest

from at2po_agent.policy.base import PolicyError, Request, Sampling, check_requests

GOOD = Request((1, 99), 5, (7, 0))


def check(*requests: Request, sampling: Sampling | None = None) -> None:
    check_requests(requests, sampling or Sampling(), vocabulary=100, positions=256)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request((), 5, (3,)), r"request \(3,\): the prompt is empty"),
        (Request((1, 100), 5, (0,)), "not among the model's 100 tokens"),
        (Request((1, -1), 5, (0,)), "not among the model's 100 tokens"),
        (Request((1,) * 250, 7, (0,)), "a prompt of 250 tokens and 7 new ones exceed the model's 256 positions"),
        (Request((1,), 0, (0,)), "max_new_tokens is 0"),
    ],
)
def test_a_request_that_cannot_be_run_is_named_among_good_ones(request_: Request, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        check(GOOD, request_, GOOD)


@pytest.mark.parametrize("sampling", [Sampling(temperature=-1), Sampling(top_logprobs=-1), Sampling(stop=("x", ""))])
def test_sampling_that_means_nothing_is_refused_without_any_request(sampling: Sampling) -> None:
    with pytest.raises(PolicyError, match="must be 0 or more, stop strings not empty"):
        check(sampling=sampling)


def test_the_last_token_id_and_the_last_position_can_be_used() -> None:
    check()
    check(GOOD, Request((0,), 1, ()), sampling=Sampling(0.0, ("</answer>",), 20))
    check(Request((99,) * 250, 6, (0,)))
