"""Tiny random models, requests on them, and what plain forward passes make of those."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from at2po_agent.policy.base import Completion, Request, Sampling
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.local.policy import LocalPolicy
from at2po_agent.policy.local.sampler import uniforms
from tests.helpers.real_tokenizers import byte_bpe

ARCHITECTURES = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}
CODEC = Codec(byte_bpe())
NEVER = Sampling(stop=())


def tiny(architecture: str = "qwen3", **options: Any) -> Any:
    config, model = ARCHITECTURES[architecture]
    sizes = {"vocab_size": CODEC.vocab_size, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
    extra = {"head_dim": 16} if architecture == "qwen3" else {}
    torch.manual_seed(0)
    # wide initial weights: the distributions of a fresh model are else nearly uniform
    settings = {**sizes, **heads, **extra, "initializer_range": 0.4, "attn_implementation": "sdpa", **options}
    return model(config(**settings)).eval()


def run(policy: LocalPolicy, requests: list[Request], sampling: Sampling = NEVER) -> list[Completion]:
    return asyncio.run(policy.generate(requests, sampling))


def prompts(count: int, seed: int = 0) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 40, (count,), generator=generator).tolist()
    return [tuple(torch.randint(0, CODEC.vocab_size, (n,), generator=generator).tolist()) for n in lengths]


def requests(count: int, new: int = 12, seed: int = 0) -> list[Request]:
    return [Request(prompt, new, (seed, i)) for i, prompt in enumerate(prompts(count, seed))]


@torch.no_grad()
def reference(model: Any, request: Request, sampling: Sampling) -> Completion:
    """Token by token, each from one forward pass over everything before it."""
    ids: list[int] = []
    logprobs: list[float] = []
    noise = uniforms(request.key, request.max_new_tokens)
    finish = "length"
    while len(ids) < request.max_new_tokens:
        logits = model(input_ids=torch.tensor([[*request.prompt, *ids]]), use_cache=False).logits[0, -1].double()
        logp = torch.log_softmax(logits / (sampling.temperature or 1), -1)
        below = torch.cumsum(logp.exp(), 0) <= noise[len(ids)]
        ids.append(int(below.sum() if sampling.temperature else logp.argmax()))
        logprobs.append(float(logp[ids[-1]]))
        if ids[-1] in CODEC.eos_ids:
            finish = "eos"
            break
        if any(stop in CODEC.decode_action(ids) for stop in sampling.stop):
            finish = "stop"
            break
    return Completion(tuple(ids), tuple(logprobs), finish)


def assert_same(found: list[Completion], expected: list[Completion]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.ids == other.ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert one.finish == other.finish
