from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from at2po_agent.warmstart.imitation import Demonstration, FitConfig, Progress, fit

QUICK = FitConfig(batch=4, epochs=1.0, warmup=0.0, decay=0.0)


def model(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=16,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            tie_word_embeddings=True,
        )
    )


def repeats(*ids: int, times: int = 4, weight: float = 1.0) -> list[Demonstration]:
    return [Demonstration(ids, (weight,) * len(ids))] * times


def parameters(network: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def next_token(network: Any, *ids: int) -> int:
    with torch.no_grad():
        return int(network(input_ids=torch.tensor([ids])).logits[0, -1].argmax())


def test_it_learns_what_is_shown_and_reports_the_weighted_mean_of_the_losses() -> None:
    network = model()
    steps: list[Progress] = []
    shown = repeats(3, 1, 4, 1, 5, 9, times=120)
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([shown[0].ids])).logits[0, :-1]
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor(shown[0].ids[1:]))
    fit(network, shown, replace(QUICK, lr=0.03), 0, steps.append)
    assert steps[0].loss == pytest.approx(float(expected), rel=1e-5)
    assert steps[-1].loss < 0.1 * steps[0].loss
    assert (steps[-1].step, steps[-1].steps, steps[-1].tokens) == (30, 30, 120 * 6)
    assert next_token(network, 3, 1, 4, 1, 5) == 9
    assert not network.training


def test_tokens_without_weight_are_read_and_not_learned() -> None:
    network = model()
    fit(network, [Demonstration((2, 7, 8, 5), (0.0, 0.0, 1.0, 0.0))] * 120, QUICK, 0)
    assert next_token(network, 2, 7) == 8
    assert next_token(network, 2) != 7 and next_token(network, 2, 7, 8) != 5


def test_weights_are_shares_of_a_batchs_loss() -> None:
    """Two tokens of weight 1 and 3: the loss is a quarter of one cross-entropy and three quarters of the other."""
    network = model()
    with torch.no_grad():
        logp = network(input_ids=torch.tensor([[2, 7, 8]])).logits.log_softmax(-1)[0]
    expected = -(1 * logp[0, 7] + 3 * logp[1, 8]) / 4
    steps: list[Progress] = []
    fit(network, [Demonstration((2, 7, 8), (9.0, 1.0, 3.0))], QUICK, 0, steps.append)
    assert steps[0].loss == pytest.approx(float(expected), rel=1e-5)


def test_padding_and_splitting_a_batch_change_nothing() -> None:
    mixed = repeats(3, 1, 4, 1, 5, 9, 2, times=2) + repeats(6, 5, times=1) + repeats(8, 9, 7, times=1)
    whole, split = model(), model()
    losses: dict[str, list[float]] = {"whole": [], "split": []}
    config = replace(QUICK, matrix_lr=None, epochs=3.0)  # Muon computes in bfloat16 and would blow up rounding
    fit(whole, mixed, config, 0, lambda progress: losses["whole"].append(progress.loss))
    fit(split, mixed, replace(config, max_tokens=7), 0, lambda progress: losses["split"].append(progress.loss))
    assert losses["split"] == pytest.approx(losses["whole"], rel=1e-4)


def test_the_same_seed_gives_the_same_weights_and_another_seed_another_order() -> None:
    shown = [Demonstration((i % 16, (3 * i) % 16, (5 * i) % 16), (1.0,) * 3) for i in range(64)]
    fitted = []
    for seed in (1, 1, 2):
        network = model()
        fit(network, shown, QUICK, seed)
        fitted.append(network.lm_head.weight.detach())
    assert torch.equal(fitted[0], fitted[1])
    assert not torch.equal(fitted[0], fitted[2])


def test_muon_moves_the_matrices_inside_and_adamw_embeddings_and_norms() -> None:
    network = model()
    before = parameters(network)
    fit(network, repeats(3, 1, 4), replace(QUICK, lr=0.0), 0)
    moved = {name for name, value in parameters(network).items() if not torch.equal(value, before[name])}
    assert moved == {name for name, value in before.items() if value.ndim == 2 and "embed_tokens" not in name}

    network = model()
    fit(network, repeats(3, 1, 4), replace(QUICK, matrix_lr=0.0), 0)
    moved = {name for name, value in parameters(network).items() if not torch.equal(value, before[name])}
    assert moved == {name for name, value in before.items() if value.ndim != 2 or "embed_tokens" in name}


def test_without_a_rate_for_matrices_adamw_moves_all() -> None:
    network = model()
    before = parameters(network)
    fit(network, repeats(3, 1, 4), replace(QUICK, matrix_lr=None), 0)
    assert all(not torch.equal(value, before[name]) for name, value in parameters(network).items())


def test_the_learning_rate_rises_stays_and_falls() -> None:
    """AdamW's first steps have the size of the learning rate, whatever the gradient."""
    rates: list[float] = []
    network = model()
    last = parameters(network)

    def measure(progress: Progress) -> None:
        nonlocal last
        now = parameters(network)
        name = "model.norm.weight"
        rates.append(float((now[name] - last[name]).abs().max()))
        last = now

    config = replace(QUICK, matrix_lr=None, lr=1e-4, warmup=0.2, decay=0.5)
    fit(network, repeats(3, 1, 4, times=40), config, 0, measure)
    expected = [0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]
    assert [rate / 1e-4 for rate in rates] == pytest.approx(expected, rel=0.1)


def test_nothing_to_imitate_and_a_loss_that_is_no_number_are_errors() -> None:
    with pytest.raises(ValueError, match="no demonstration"):
        fit(model(), [], QUICK, 0)
    network = model()
    with torch.no_grad():
        network.model.norm.weight.fill_(math.nan)
    with pytest.raises(ValueError, match=r"loss is nan at step 1.*fit\.lr"):
        fit(network, repeats(3, 1, 4), QUICK, 0)
