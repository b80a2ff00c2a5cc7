"""slime and prime-rl by the signatures that they publish; neither package is on an index."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from types import ModuleType
from typing import Any

import gymnasium
import pytest
import torch

import at2po_agent as at2po
from at2po_agent.integrations import prime_rl, slime, turn_loss
from at2po_agent.method.objective import ATPO
from tests.helpers.trajectories import padded_rows

BOUNDS = [(0.3, 0.4), (1e-4, 0.4), (0.3, 1e-4)]  # no clipping, and clipping on one side alone


def publish(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


# --- prime-rl: docs/bring-your-own-algorithms ----------------------------------------------------------------------


@dataclass
class PrimeLossInputs:
    trainer_logprobs: torch.Tensor
    inference_logprobs: torch.Tensor
    teacher_logprobs: torch.Tensor | None
    advantages: torch.Tensor
    loss_mask: torch.Tensor


@dataclass
class PrimeOutputs:
    loss: torch.Tensor | None = None
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)
    advantages: torch.Tensor | None = None


@pytest.mark.parametrize("bounds", [{}, *({"eps_low": low, "eps_high": high} for low, high in BOUNDS)])
def test_prime_rl_s_sequences_add_up_to_the_core_s_loss(monkeypatch, bounds):
    publish(monkeypatch, "prime_rl.trainer.rl.loss", LossOutputs=PrimeOutputs)
    batch = padded_rows()

    def by_sequence(logp, logp_old, advantages, mask):
        outputs = [
            prime_rl.turn_level_loss(PrimeLossInputs(a, b, None, c, d.bool()), sequence_mean=True, **bounds)
            for a, b, c, d in zip(logp, logp_old, advantages, mask, strict=True)
        ]
        assert all(metric.ndim == 0 for output in outputs for metric in output.metrics.values())
        return (sum(output.loss for output in outputs) / len(logp),)

    loss, gradient = batch.loss_and_gradient(by_sequence)
    expected = batch.loss_and_gradient(partial(turn_loss, objective=ATPO(**bounds)))
    assert loss == pytest.approx(expected[0], rel=1e-12)
    torch.testing.assert_close(gradient, expected[1], rtol=1e-12, atol=0)


def test_prime_rl_s_groups_are_chains(monkeypatch):
    publish(monkeypatch, "prime_rl.orchestrator.advantage", AdvantageOutputs=PrimeOutputs)
    inputs = Namespace(rewards=torch.tensor([[1.0, 0.0, -1.0, 0.0], [1.0, 1.0, 1.0, 1.0]]))
    advantages = prime_rl.group_advantage(inputs).advantages
    z = 0.5**-0.5
    torch.testing.assert_close(advantages, torch.tensor([[z, 0, -z, 0], [0, 0, 0, 0]]), rtol=1e-5, atol=1e-7)


# --- slime: docs/en/get_started/customization.md -------------------------------------------------------------------


@dataclass
class Sample:
    Status = Enum("Status", ["PENDING", "COMPLETED"])
    index: int | None = None
    rollout_id: int | None = None
    tokens: list[int] = field(default_factory=list)
    response: str = ""
    response_length: int = 0
    loss_mask: list[int] | None = None
    rollout_log_probs: list[float] | None = None
    reward: float | None = None
    status: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    train_metadata: dict[str, Any] | None = None


def test_slime_trains_on_a_tree_as_we_do(monkeypatch):
    env = gymnasium.make("AT2PO-MicroWiki-v0", dialect="bare", k=1, max_searches=4).unwrapped
    policy = at2po.LocalPolicy.from_pretrained("builtin:microwiki")
    method = at2po.build("at2po", expansion={"chains": 3, "per_round": 2, "rounds": 1})
    generate = slime.TreeGenerate(env, at2po.Actor(policy, policy.codec), method)
    task = next(t for t in env.tasks)
    args = Namespace(seed=3, use_rollout_logprobs=True, eps_clip=3e-3, eps_clip_high=4e-3)
    sample = Sample(index=7, metadata={"task_id": task})
    samples = asyncio.run(generate(args, sample, {"temperature": 1.0}))
    policy.close()
    assert len(samples) == 5 and {s.rollout_id for s in samples} == {7} and sample.tokens == []
    assert all(s.status == Sample.Status.COMPLETED and s.reward is not None for s in samples)

    masks = [torch.tensor(s.loss_mask) for s in samples]
    data: dict[str, Any] = {"metadata": [s.train_metadata for s in samples], "loss_masks": masks}
    slime.turn_advantages(args, data)
    old = [torch.tensor(s.rollout_log_probs) for s in samples]
    torch.manual_seed(0)
    new = [(logp + 0.004 * torch.randn_like(logp)).requires_grad_() for logp in old]

    def log_probs(logits, *, args, unconcat_tokens, total_lengths, response_lengths, with_entropy, max_seq_lens):
        assert [len(t) for t in unconcat_tokens] == total_lengths
        return torch.empty(0), {"log_probs": list(logits)}

    publish(monkeypatch, "slime.backends.megatron_utils.loss", get_log_probs_and_entropy=log_probs)
    lengths = [s.response_length for s in samples]
    batch = {
        **data,
        "rollout_log_probs": old,
        "response_lengths": lengths,
        "total_lengths": [len(s.tokens) for s in samples],
        "unconcat_tokens": [torch.tensor(s.tokens) for s in samples],
    }

    def mean_of_the_rollout(rows):  # siblings count as one rollout: all of its tokens together
        return (rows * torch.cat(masks)).sum() / torch.cat(masks).sum()

    padded = [torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) for rows in (new, old, masks)]
    weight = sum(int(mask.sum()) for mask in masks) / len(masks)
    plain = [a * int(mask.sum()) / weight for a, mask in zip(data["advantages"], masks, strict=True)]
    advantages = torch.nn.utils.rnn.pad_sequence(plain, batch_first=True)
    fractions = []
    for low, high in [(3e-3, 4e-3), *BOUNDS]:
        args.eps_clip, args.eps_clip_high = low, high
        loss, metrics = slime.turn_level_loss(args, batch, new, mean_of_the_rollout)
        expected, told = turn_loss(padded[0], padded[1], advantages, padded[2], objective=ATPO(low, high))
        assert metrics["loss"] == loss.detach()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-7)
        fractions.append(metrics["clip_fraction"].item())
        assert fractions[-1] == pytest.approx(told["clip_fraction"])
        gradients = [torch.autograd.grad(one, new, retain_graph=True) for one in (loss, expected)]
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-8)
    assert fractions[1] == 0 < min(fractions[0], *fractions[2:])
