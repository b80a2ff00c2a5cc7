"""Fit a causal language model to demonstrations: weighted cross-entropy, Muon for matrices, AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from at2po_agent.policy.base import CausalLM
from at2po_agent.settings import above, at_least

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Demonstration(NamedTuple):
    """One episode as the policy would have seen and written it."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]  # [len(ids)] of each token's loss


@dataclass(frozen=True)
class FitConfig:
    """Settings of the fit."""

    batch: int = at_least(32, 1)  # demonstrations per optimiser step
    epochs: float = above(1.0, 0)  # passes over the demonstrations
    max_tokens: int = at_least(8192, 1)  # padded tokens per forward pass; a larger batch is accumulated
    matrix_lr: float | None = at_least(0.02, 0)  # of Muon; null: AdamW for all parameters, as suits a pretrained model
    lr: float = at_least(3e-3, 0)  # of AdamW: embeddings and norms, or all parameters
    weight_decay: float = at_least(0.0, 0)  # of AdamW
    warmup: float = at_least(0.02, 0)  # share of the steps with a rising learning rate
    decay: float = at_least(0.5, 0)  # share of the steps at the end with a rate that falls to zero
    grad_clip: float = above(1.0, 0)  # of the gradient's norm


class Progress(NamedTuple):
    """The report of a step of ``fit``."""

    step: int
    steps: int
    loss: float  # nats per unit of weight
    tokens: int  # forwarded so far, without padding


def fit(
    model: CausalLM,
    demonstrations: Sequence[Demonstration],
    config: FitConfig,
    seed: int,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train ``model`` in place. The loss of a batch is the weighted mean of its tokens' cross-entropies.

    Args:
        model: changed in place.
        demonstrations: what to imitate.
        config: see its fields.
        seed: of the order of the demonstrations.
        on_step: called after every optimiser step.

    Raises:
        ValueError: there is no demonstration, or a loss is not finite.
    """
    import torch

    if not demonstrations:
        raise ValueError("there is no demonstration to imitate")
    steps = max(1, math.ceil(config.epochs * len(demonstrations) / config.batch))
    optimisers = _optimisers(model, config)
    batches = _batches(demonstrations, config.batch, np.random.default_rng(seed))
    device = next(model.parameters()).device
    tokens = 0
    model.train()
    for step in range(1, steps + 1):
        batch = next(batches)
        total = sum(sum(item.weights[1:]) for item in batch)
        loss = 0.0
        for part in _within(batch, config.max_tokens):
            part_loss = _weighted_loss(model, part, device) / total
            part_loss.backward()  # type: ignore[no-untyped-call]
            loss += float(part_loss.detach())
        if not math.isfinite(loss):
            raise ValueError(f"the loss is {loss} at step {step}; lower fit.lr and fit.matrix_lr")
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        for optimiser, peak in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = peak * _schedule(step, steps, config)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        tokens += sum(len(item.ids) for item in batch)
        on_step(Progress(step, steps, loss, tokens))
    model.eval()


def _optimisers(model: CausalLM, config: FitConfig) -> list[tuple[torch.optim.Optimizer, float]]:
    """Optimisers with their peak learning rates. Muon is for the matrices between embedding and head only."""
    import torch

    outer = {id(layer.weight) for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.matrix_lr is None:
        return [(torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay), config.lr)]
    inner = [parameter for parameter in parameters if parameter.ndim == 2 and id(parameter) not in outer]
    rest = [parameter for parameter in parameters if parameter.ndim != 2 or id(parameter) in outer]
    return [
        (torch.optim.Muon(inner, lr=config.matrix_lr, weight_decay=config.weight_decay), config.matrix_lr),
        (torch.optim.AdamW(rest, lr=config.lr, weight_decay=config.weight_decay), config.lr),
    ]


def _schedule(step: int, steps: int, config: FitConfig) -> float:
    """Factor on the learning rate at ``step`` (1 to ``steps``): linear rise, plateau, linear fall."""
    rise = min(1.0, step / max(1.0, config.warmup * steps))
    fall = min(1.0, (steps - step + 1) / max(1.0, config.decay * steps))
    return min(rise, fall)


def _batches(
    items: Sequence[Demonstration], batch: int, rng: np.random.Generator, pool: int = 16
) -> Iterator[list[Demonstration]]:
    """Endless batches, each epoch in a new order. Within a pool of batches similar lengths go together."""
    while True:
        order = rng.permutation(len(items))
        for start in range(0, len(order), batch * pool):
            near = sorted(order[start : start + batch * pool], key=lambda i: len(items[i].ids))
            cut = [near[at : at + batch] for at in range(0, len(near), batch)]
            for at in rng.permutation(len(cut)):
                yield [items[i] for i in cut[at]]


def _within(batch: Sequence[Demonstration], max_tokens: int) -> Iterator[list[Demonstration]]:
    """Split a batch so that each part, padded, has at most ``max_tokens`` tokens (or is one demonstration)."""
    part: list[Demonstration] = []
    width = 0
    for item in sorted(batch, key=lambda item: len(item.ids)):
        width = max(width, len(item.ids))
        if part and width * (len(part) + 1) > max_tokens:
            yield part
            part, width = [], len(item.ids)
        part.append(item)
    yield part


def _weighted_loss(model: CausalLM, part: Sequence[Demonstration], device: torch.device) -> Tensor:
    """Sum of ``weight · cross-entropy`` over the tokens of ``part``.

    Padding is on the right with weight 0, so that causal attention alone keeps it out and no mask is needed.
    """
    import torch

    width = max(len(item.ids) for item in part)
    ids = torch.zeros(len(part), width, dtype=torch.long)
    weights = torch.zeros(len(part), width)
    for row, item in enumerate(part):
        ids[row, : len(item.ids)] = torch.tensor(item.ids)
        weights[row, : len(item.ids)] = torch.tensor(item.weights)
    ids, weights = ids.to(device), weights.to(device)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (losses * weights[:, 1:].flatten()).sum()
