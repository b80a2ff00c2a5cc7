"""Sampling tokens after contexts, with noise that depends on a request's key and on nothing else."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from at2po_agent.policy.base import PolicyError


class Sampled(NamedTuple):
    """Sampled tokens with their log-probabilities and, where asked for, those of the most likely ones."""

    ids: list[list[int]]  # [contexts][samples]
    logprobs: list[list[float]]  # [contexts][samples], nats
    top: list[tuple[tuple[int, float], ...]]  # [contexts][k] of (id, logprob), most likely first


def uniforms(key: tuple[int, ...], count: int) -> NDArray[np.float64]:
    """The noise of one request: number ``t`` in [0, 1) samples its token ``t``; ``[count]``.

    Counter-based (Philox 4x64, Salmon et al. 2011), keyed by a hash of ``key``: what else is sampled, in which order
    and in which process changes nothing.
    """
    digest = hashlib.blake2b(",".join(map(str, key)).encode(), digest_size=16).digest()
    raw = np.random.Philox(key=int.from_bytes(digest, "little")).random_raw(count)
    return np.asarray((raw >> np.uint64(11)) * 2.0**-53)


def sample(logits: torch.Tensor, noise: NDArray[np.float64], temperature: float, top: int) -> Sampled:
    """Sample from ``softmax(logits / temperature)`` by inverting its distribution function; greedy at temperature 0.

    Args:
        logits: ``[contexts, vocabulary]``.
        noise: ``[contexts, samples]`` in [0, 1), one for each sample that is taken after a context.
        temperature: log-probabilities are of this temperature; greedy ones of temperature 1.
        top: how many of the most likely tokens to report.

    Raises:
        PolicyError: the logits are not finite.
    """
    scaled = logits.float() / (temperature or 1.0)
    highest = scaled.amax(dim=-1, keepdim=True)
    cumulative = (scaled - highest).exp_().cumsum(dim=-1, dtype=torch.float64)
    log_sum = cumulative[:, -1:].log() + highest
    if temperature == 0:
        chosen = scaled.argmax(dim=-1, keepdim=True).expand(noise.shape)
    else:
        target = torch.from_numpy(noise).to(logits.device) * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, target, right=True).clamp_(max=logits.shape[-1] - 1)
    logprobs = (scaled.gather(1, chosen) - log_sum).tolist()
    if not np.isfinite(logprobs).all():
        raise PolicyError("the model's logits are not finite: its weights are broken, or its precision is too low")
    return Sampled(chosen.tolist(), logprobs, _most_likely(scaled, log_sum, top))


def _most_likely(scaled: torch.Tensor, log_sum: torch.Tensor, top: int) -> list[tuple[tuple[int, float], ...]]:
    values, ids = scaled.topk(min(top, scaled.shape[-1]), dim=-1)
    rows = zip(ids.tolist(), (values - log_sum).tolist(), strict=True)
    return [tuple(zip(i, v, strict=True)) for i, v in rows]
