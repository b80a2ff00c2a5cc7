"""What every engine of the MicroWiki policy must do: inherit ``PolicyContract`` and give it an ``engine``.

The policy has 880,000 parameters in float32, so that any engine's log-probabilities can be held against plain forward
passes of the model in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from at2po_agent.environments import make_env
from at2po_agent.policy.base import Completion, Policy, PolicyError, Request, Sampling
from at2po_agent.policy.loading import load_policy, resolve_policy

STOP = ("</search>", "</answer>")
MODEL, MICROWIKI_CODEC = load_policy(resolve_policy("builtin:microwiki"))
MODEL.eval()


@dataclass
class Engine:
    """A policy under the contract, and how a test gives it other weights."""

    policy: Any
    load: Callable[[Any, Path, int], None]  # (model, scratch folder, version)


def microwiki(world: str = "tiny") -> Any:
    return make_env("AT2PO-MicroWiki-v0", "dev", {"k": 1, "dialect": "bare", "max_searches": 4, "world": world})


def prompts(count: int) -> list[tuple[int, ...]]:
    env = microwiki()
    found = []
    for question in env.questions[:count]:
        env.reset(options={"question_id": question.id})
        found.append(MICROWIKI_CODEC.prompt(env.observation()))
    return found


def requests(count: int, new: int, key: int = 0) -> list[Request]:
    return [Request(prompt, new, (key, i, 0, 0)) for i, prompt in enumerate(prompts(count))]


def run(policy: Policy, asked: Sequence[Request], sampling: Sampling) -> list[Completion]:
    return asyncio.run(policy.generate(asked, sampling))


@torch.no_grad()
def log_softmax(model: Any, request: Request, ids: Sequence[int], temperature: float) -> torch.Tensor:
    """Of every position that an id was sampled at; ``[len(ids), vocabulary]``."""
    sequence = torch.tensor([[*request.prompt, *ids]])
    logits = model(input_ids=sequence, use_cache=False).logits[0, len(request.prompt) - 1 : -1]
    return torch.log_softmax(logits.double() / temperature, -1)


def assert_sampled_from(model: Any, request: Request, found: Completion, temperature: float) -> None:
    expected = log_softmax(model, request, found.ids, temperature)
    assert found.logprobs == pytest.approx(
        [float(row[i]) for row, i in zip(expected, found.ids, strict=True)], abs=1e-4
    )


class PolicyContract:
    """The assertions."""

    @pytest.fixture
    def engine(self) -> Engine:
        raise LookupError("a subclass gives the engine")

    @pytest.mark.parametrize("stop", [(), STOP], ids=["to-the-end", "one-turn"])
    def test_greedy_turns_are_the_model_s(self, engine: Engine, stop: tuple[str, ...]) -> None:
        asked, sampling = requests(6, 40), Sampling(0.0, stop=stop)
        found = run(engine.policy, asked, sampling)
        for request, completion in zip(asked, found, strict=True):
            most_likely = log_softmax(MODEL, request, completion.ids, 1.0).argmax(-1)
            assert completion.ids == tuple(most_likely.tolist())
            assert_sampled_from(MODEL, request, completion, 1.0)
        assert {completion.finish for completion in found} <= ({"stop"} if stop else {"eos", "length"})

    def test_sampled_turns_have_the_logprobs_of_their_temperature(self, engine: Engine) -> None:
        asked = requests(6, 40, key=1)
        for temperature in (0.6, 1.4):
            for request, found in zip(asked, run(engine.policy, asked, Sampling(temperature, STOP)), strict=True):
                assert_sampled_from(MODEL, request, found, temperature)

    def test_a_turn_ends_with_its_first_stop_its_end_of_sequence_or_its_length(self, engine: Engine) -> None:
        finishes = set()
        for stop, new in ((STOP, 40), ((), 60), ((), 4), (("e",), 5)):
            asked = requests(6, new, key=2)
            for found in run(engine.policy, asked, Sampling(1.0, stop)):
                finishes.add(found.finish)
                before, text = (MICROWIKI_CODEC.decode_action(ids) for ids in (found.ids[:-1], found.ids))
                assert not any(one in before for one in stop)
                assert MICROWIKI_CODEC.eos_ids.isdisjoint(found.ids[:-1])
                assert (found.finish == "stop") == any(one in text for one in stop)
                assert (found.finish == "eos") == (found.ids[-1] in MICROWIKI_CODEC.eos_ids)
                assert found.finish != "length" or len(found.ids) == new
        assert finishes == {"stop", "eos", "length"}

    def test_equal_prompts_give_independent_turns(self, engine: Engine) -> None:
        prompt = prompts(1)[0]
        asked = [Request(prompt, 12, (3, 0, i, 0)) for i in range(24)]
        found = run(engine.policy, asked, Sampling(1.5, ()))
        assert len({completion.ids for completion in found}) > 6
        for request, completion in zip(asked, found, strict=True):
            assert_sampled_from(MODEL, request, completion, 1.5)

    def test_most_likely_tokens_are_the_model_s(self, engine: Engine) -> None:
        request = requests(1, 8)[0]
        found = run(engine.policy, [request], Sampling(0.8, (), top_logprobs=4))[0]
        values, ids = log_softmax(MODEL, request, found.ids, 0.8).topk(4)
        assert [[i for i, _ in top] for top in found.top_logprobs] == ids.tolist()
        for top, expected in zip(found.top_logprobs, values.tolist(), strict=True):
            assert [logprob for _, logprob in top] == pytest.approx(expected, abs=1e-4)

    def test_a_cancelled_call_leaves_the_engine_to_others(self, engine: Engine) -> None:
        async def cancel() -> list[Completion]:
            long = [Request((7, 8, 9), 900, (4, 0, i, 0)) for i in range(3)]
            task = asyncio.create_task(engine.policy.generate(long, Sampling(1.0, ())))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return list(await engine.policy.generate(requests(2, 6), Sampling(0.0, STOP)))

        assert len(asyncio.run(cancel())) == 2
        engine.policy.clear_cache()  # refused while anything is still being sampled

    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            (Request((), 5, (5,)), "the prompt is empty"),
            (Request((1, 100_000), 5, (5,)), "not among the model's"),
            (Request((1,) * 1000, 500, (5,)), "exceed the model's"),
        ],
    )
    def test_what_no_engine_can_run_is_refused(self, engine: Engine, request_: Request, message: str) -> None:
        with pytest.raises(PolicyError, match=message):
            run(engine.policy, [*requests(1, 5), request_], Sampling(0.0, STOP))

    def test_after_an_update_turns_are_those_of_the_new_weights(self, engine: Engine, tmp_path: Path) -> None:
        asked, sampling = requests(4, 12, key=6), Sampling(0.0, ())
        before = run(engine.policy, asked, sampling)
        changed, _ = load_policy(resolve_policy("builtin:microwiki"))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter.add_(parameter.std() * 0.3 * torch.randn(parameter.shape, generator=generator))
        try:
            engine.load(changed.eval(), tmp_path / "changed", 7)
            after = run(engine.policy, asked, sampling)
        finally:
            engine.load(MODEL, tmp_path / "original", 0)
        assert [c.ids for c in after] != [c.ids for c in before]
        for request, completion in zip(asked, after, strict=True):
            assert_sampled_from(changed, request, completion, 1.0)
            assert (completion.version, completion.straddles) == (7, False)
        assert [c.ids for c in run(engine.policy, asked, sampling)] == [c.ids for c in before]
