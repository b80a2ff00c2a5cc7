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


class Drawn(NamedTuple):
    """Sampled tokens where the logits were, nothing of them transferred yet."""

    ids: torch.Tensor  # [contexts, samples]
    logprobs: torch.Tensor  # [contexts, samples], nats
    top_ids: torch.Tensor  # [contexts, k]
    top_logprobs: torch.Tensor  # [contexts, k]

    def read(self) -> Sampled:
        """The same as Python numbers, in one transfer.

        Raises:
            PolicyError: the logits were not finite.
        """
        samples, top = self.ids.shape[1], self.top_ids.shape[1]
        # Ids and float32 are exact in float64.
        numbers = torch.cat([states.double() for states in self], dim=1).cpu().numpy()
        ids, logprobs, top_ids, top_logprobs = np.split(numbers, np.cumsum([samples, samples, top]), axis=1)
        if not np.isfinite(logprobs).all():
            raise PolicyError("the model's logits are not finite: its weights are broken, or its precision is too low")
        likely = zip(top_ids.astype(int).tolist(), top_logprobs.tolist(), strict=True)
        most_likely = [tuple(zip(i, v, strict=True)) for i, v in likely]
        return Sampled(ids.astype(int).tolist(), logprobs.tolist(), most_likely)


def uniforms(key: tuple[int, ...], count: int) -> NDArray[np.float64]:
    """The noise of one request: number ``t`` in [0, 1) samples its token ``t``; ``[count]``.

    Counter-based (Philox 4x64, Salmon et al. 2011), keyed by a hash of ``key``: what else is sampled, in which order
    and in which process changes nothing.
    """
    digest = hashlib.blake2b(",".join(map(str, key)).encode(), digest_size=16).digest()
    raw = np.random.Philox(key=int.from_bytes(digest, "little")).random_raw(count)
    return np.asarray((raw >> np.uint64(11)) * 2.0**-53)


def draw(logits: torch.Tensor, noise: torch.Tensor, temperature: float, top: int) -> Drawn:
    """Sample from ``softmax(logits / temperature)`` by inverting its distribution function; greedy at temperature 0.

    Everything stays on the logits' device, and nothing waits for it.

    Args:
        logits: ``[contexts, vocabulary]``.
        noise: ``[contexts, samples]`` in [0, 1), float64: one for each sample that is taken after a context.
        temperature: log-probabilities are of this temperature; greedy ones of temperature 1.
        top: how many of the most likely tokens to report.
    """
    scaled = logits.float() / (temperature or 1.0)
    highest = scaled.amax(dim=-1, keepdim=True)
    cumulative = (scaled - highest).exp_().cumsum(dim=-1, dtype=torch.float64)
    log_sum = cumulative[:, -1:].log() + highest
    if temperature == 0:
        chosen = scaled.argmax(dim=-1, keepdim=True).expand(noise.shape)
    else:
        target = noise * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, target, right=True).clamp_(max=logits.shape[-1] - 1)
    values, ids = scaled.topk(min(top, scaled.shape[-1]), dim=-1)
    return Drawn(chosen, scaled.gather(1, chosen) - log_sum, ids, values - log_sum)
