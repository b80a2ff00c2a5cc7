"""Servers whose log-probabilities cannot be trained on are refused before they are used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import torch

from at2po_agent.policy.base import PolicyError, PolicyUnavailable
from at2po_agent.policy.sglang.check import KnownPrompt, check_distribution, known_ids, known_prompt
from at2po_agent.policy.sglang.server import Server
from tests.helpers.servers import free_port
from tests.helpers.sglang_control import Controlled
from tests.helpers.sglang_double import Double, serving
from tests.helpers.tiny_models import CODEC, tiny


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny()


@pytest.fixture
def served(model: Any) -> Iterator[Controlled]:
    with serving(Controlled(model)) as server:
        yield server


def check(url: str, known: KnownPrompt | None = None) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            await check_distribution(Server(url, session, 5), CODEC, known)

    asyncio.run(run())


def test_the_known_prompt_is_what_the_model_says_after_it(model: Any) -> None:
    known = known_prompt(model, CODEC)
    assert known.prompt == known_ids(CODEC)
    with torch.no_grad():
        logp = torch.log_softmax(model(torch.tensor([known.prompt])).logits[0, -1].double(), -1)
    values, ids = logp.topk(len(known.logprobs))
    assert [i for i, _ in known.logprobs] == ids.tolist()
    assert [logprob for _, logprob in known.logprobs] == pytest.approx(values.tolist(), abs=1e-5)


def test_a_server_of_the_trained_model_passes(served: Controlled, model: Any) -> None:
    check(served.url)
    check(served.url, known_prompt(model, CODEC))
    asked = [sent["sampling_params"] for sent in served.requests if "rid" in sent]
    assert {params["temperature"] for params in asked} == {0.5, 1.0}
    assert {params["max_new_tokens"] for params in asked} == {1}


def test_logprobs_of_temperature_1_at_every_temperature_are_refused() -> None:
    with serving(Double()) as double:
        double.raw_logprobs = True
        with pytest.raises(PolicyError, match=f"{double.url} .*SGLANG_RETURN_ORIGINAL_LOGPROB"):
            check(double.url)
        double.raw_logprobs = False
        check(double.url)


def test_another_model_is_refused_and_rounding_is_not(served: Controlled, model: Any) -> None:
    known = known_prompt(model, CODEC)
    (first, logprob), *rest = known.logprobs
    check(served.url, replace(known, logprobs=((first, logprob + 0.09), *rest)))
    with pytest.raises(PolicyError, match=f"{served.url} serves another model .* token {first} "):
        check(served.url, replace(known, logprobs=((first, logprob + 0.11), *rest)))
    other = tiny("llama")
    with pytest.raises(PolicyError, match="serves another model"):
        check(served.url, known_prompt(other, CODEC))


def test_a_server_that_is_away_is_not_refused_for_good() -> None:
    with pytest.raises(PolicyUnavailable):
        check(f"http://127.0.0.1:{free_port()}")
